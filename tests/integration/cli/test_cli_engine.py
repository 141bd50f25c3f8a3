"""The `ganger` command with an engine that runs: `ganger run` itself, and what the others show of its tasks."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from typer.testing import CliRunner

from engine.adapters.redis.embedded.server import await_end
from engine.cli.app import app
from engine.cli.exit_codes import Exit

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
PATIENCE_S = 20


class Done(NamedTuple):
    code: int
    stdout: str
    stderr: str


class Engine:
    """`ganger run` with the handlers of cli_handlers.py, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("GANGER_")}
        self.environment |= {"GANGER_DATA_DIR": str(folder / "data"), "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "engine", "run", "--handlers", "cli_handlers", "--set", "sample_interval_s=0.1",
             "--max-workers", "2"],
            cwd=HERE, env=self.environment, stderr=subprocess.PIPE, text=True)
        self.said: list[dict[str, Any]] = []
        try:
            self.await_line(lambda row: row["message"] == "ready" and row["child"] == "pool default")
        except BaseException:
            self.killed()
            raise

    def await_line(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Read its log until there is such a line."""
        assert self.process.stderr is not None
        for text in iter(self.process.stderr.readline, ""):
            assert text.startswith("{"), text + self.killed()
            self.said.append(json.loads(text))
            if wanted(self.said[-1]):
                return self.said[-1]
        raise AssertionError(f"it ended without saying so: {self.said}")

    def ganger(self, *arguments: str) -> Done:
        """Call the command in this process, which is ten times as fast as starting one."""
        result = CliRunner().invoke(app, list(arguments), env=self.environment)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return Done(result.exit_code, result.stdout, result.stderr)

    def popen(self, *arguments: str) -> "subprocess.Popen[str]":
        return subprocess.Popen([sys.executable, "-m", "engine", *arguments], env=self.environment, cwd=HERE, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def stop(self) -> int:
        self.process.terminate()
        _, rest = self.process.communicate(timeout=PATIENCE_S)
        assert all(line.startswith("{") for line in rest.splitlines()), rest
        self.said += [json.loads(line) for line in rest.splitlines()]
        return self.process.returncode

    def killed(self) -> str:
        """Kill it; returns the rest of its log."""
        self.process.kill()
        return self.process.communicate()[1] if self.process.stderr and not self.process.stderr.closed else ""


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    folder = Path(tempfile.mkdtemp(prefix="ganger-test-"))
    try:
        running = Engine(folder)
        yield running
        running.killed()
        await_end(folder / "data")
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def held(engine: Engine, tmp_path: Path) -> Iterator[tuple[str, Callable[[], None]]]:
    """A task that runs until the test lets it go; its id, and how to let it go."""
    until = tmp_path / "until"
    os.mkfifo(until)
    payload = json.dumps({"until": str(until)})
    task_id = engine.ganger("submit", "talk", "--payload", payload, "--name", "held").stdout.strip()
    writer = os.open(until, os.O_WRONLY)  # returns once the handler reads
    released = False

    def release() -> None:
        nonlocal released
        if not released:
            released = True
            os.close(writer)

    yield task_id, release
    release()
    engine.ganger("result", task_id, "--wait", "10")


def document(done: Done) -> Any:
    assert done.stdout.count("\n") == 1, done
    return json.loads(done.stdout)


def reported_slot(engine: Engine, task_id: str) -> dict[str, Any]:
    """The slot that runs the task, measured; in the pool's next report, a second later at most."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        for report in document(engine.ganger("workers", "--json")):
            for slot in report["slots"]:
                if (slot["task"] or {}).get("id") == task_id and slot["rss_bytes"]:
                    return slot
    raise AssertionError("no report of it came")


def test_submit_and_wait_prints_the_result(engine):
    done = engine.ganger("submit", "echo", "--payload", '{"a": [1, "ü"]}', "--wait")
    assert (done.code, done.stdout) == (Exit.OK, '{"a":[1,"ü"]}\n')
    task = document(engine.ganger("submit", "echo", "--payload", "7", "--wait-timeout", "10", "--json"))
    assert (task["status"], task["result"], task["run"], task["cause"]) == ("COMPLETED", 7, 1, "returned")
    assert task["wall_s"] >= 0
    assert task["peak_rss_bytes"] > 1_000_000
    assert task["worker"]


def test_a_task_that_fails_is_an_exit_code_and_one_clean_line(engine):
    done = engine.ganger("submit", "broken", "--wait")
    assert done.code == Exit.FAILED
    assert done.stdout == ""
    submitted, told = done.stderr.splitlines()
    assert "ValueError: broken on two lines" in told
    assert told.endswith("; see ganger status " + submitted.removeprefix("submitted "))
    assert "\x1b" not in told
    task_id = submitted.removeprefix("submitted ")
    task = document(engine.ganger("result", task_id, "--json"))
    assert task["error"]["kind"] == "ValueError"
    assert engine.ganger("result", task_id).code == Exit.FAILED
    text = engine.ganger("status", task_id).stdout
    assert "FAILED" in text
    assert "in broken" in text, "the traceback"
    assert not [line for line in text.splitlines() if not line.strip()], "no line is empty"
    assert task_id in engine.ganger("tasks", "--status", "FAILED").stdout
    assert document(engine.ganger("retry", task_id, "--json")) == [{"id": task_id, "status": "QUEUED"}]
    assert engine.ganger("result", task_id, "--wait", "10").code == Exit.FAILED


def test_an_unknown_handler_names_the_nearest(engine):
    done = engine.ganger("submit", "ecko")
    assert done.code == Exit.USAGE
    assert "'echo'" in done.stderr


def test_a_running_task_is_seen_everywhere(engine, held):
    task_id, release = held
    task = document(engine.ganger("status", task_id, "--json"))
    assert task["status"] == "RUNNING"
    assert engine.ganger("result", task_id).code == Exit.WAITED
    slot = reported_slot(engine, task_id)
    assert (slot["task"]["id"], slot["task"]["task_type"], slot["state"]) == (task_id, "talk", "busy")
    assert slot["rss_bytes"] > 1_000_000
    assert slot["cpu_percent"] is not None
    assert task_id in engine.ganger("workers").stdout
    assert task_id in engine.ganger("top", "--once").stdout
    assert task_id in engine.ganger("tree").stdout
    roots = document(engine.ganger("tree", "--json"))
    assert [root["title"] for root in roots] == ["ganger: root"]
    assert {child["title"] for child in roots[0]["children"]} == {"ganger: keeper", "ganger: pool default"}
    release()
    assert engine.ganger("result", task_id, "--wait", "10").stdout == '"talked"\n'


def test_logs_are_there_while_it_runs_and_followed_to_its_end(engine, held):
    task_id, release = held
    follower = engine.popen("logs", task_id, "-f", "--json")
    assert follower.stdout is not None
    first = [json.loads(follower.stdout.readline()) for _ in range(3)]
    assert {line["stream"] for line in first} == {"stdout", "stderr", "log"}
    assert document(engine.ganger("status", task_id, "--json"))["progress"]["fraction"] == 0.5
    release()
    rest, _ = follower.communicate(timeout=PATIENCE_S)
    assert "the end" in rest
    assert follower.returncode == 0
    lines = document(engine.ganger("logs", task_id, "--json"))
    assert [line["text"].rstrip("\n") for line in lines if line["stream"] == "stderr"] == ["on stderr"]
    assert "in the log" in engine.ganger("logs", task_id, "--stream", "log").stdout
    assert engine.ganger("logs", task_id, "--run", "2").stdout == ""


def test_a_running_task_is_cancelled(engine, held):
    task_id, _ = held
    done = engine.ganger("cancel", task_id, "--reason", "enough")
    assert done.stdout == f"{task_id} is being stopped\n"
    ended = engine.ganger("result", task_id, "--wait", "10")
    assert ended.code == Exit.FAILED
    assert "CANCELLED" in ended.stderr


def test_the_stacks_of_a_running_task_are_written_to_the_log(engine, held):
    task_id, _ = held
    assert document(engine.ganger("workers", "stack", task_id, "--json"))["id"] == task_id
    row = engine.await_line(lambda row: "stacks" in row)
    assert "cli_handlers.py" in row["stacks"]


def test_the_level_of_the_log_changes_while_it_runs(engine):
    assert document(engine.ganger("workers", "level", "debug", "--json"))[0]["level"] == "DEBUG"
    assert engine.ganger("workers", "level", "INFO").stdout == "1 pool will log INFO and above\n"
    assert engine.ganger("workers", "level", "INFO", "--pool", "none").stdout == "0 pools will log INFO and above\n"


def test_the_doctor_sees_the_pool(engine):
    found = {one["name"]: one for one in document(engine.ganger("doctor", "--json"))["findings"]}
    assert found["handlers"]["state"] == "ok"
    assert found["handlers"]["detail"] == "none are set for this command; the pools that run have their own"
    assert found["pools"]["detail"] == "1 running, with 2 workers; limits held by sampling"


def test_the_stacks_of_a_worker_are_printed_and_it_goes_on(engine, held):
    task_id, release = held
    told = document(engine.ganger("stack", task_id, "--json"))
    assert "cli_handlers.py" in told["stacks"]
    assert told["worker"] == f"{told['supervisor']}/{told['slot']}"
    for name in (told["worker"], f"default/{told['slot']}", str(told["slot"])):
        assert "cli_handlers.py" in engine.ganger("stack", name).stdout
    for nobody in (["stack", "default/99"], ["stack", "99"], ["scale", "3", "--pool", "nosuch"]):
        assert engine.ganger(*nobody).code == Exit.FAILED, "5 would say that the engine could not be started"
    assert engine.ganger("stack", "the first").code == Exit.USAGE
    release()
    assert engine.ganger("result", task_id, "--wait", "10").stdout == '"talked"\n'


def test_workers_that_all_wait_for_tasks_of_their_own_are_noticed_once(engine):
    engine.ganger("queues", "pause", "children")  # else a worker that is free for a moment would run one of them
    parents = [engine.ganger("submit", "parent").stdout.strip() for _ in range(2)]
    said = engine.await_line(lambda row: "every worker waits for other tasks" in row["message"])
    assert (said["level"], said["workers"], said["task_types"]) == ("WARNING", 2, ["parent"])
    assert "URGENT" in said["remedy"]
    engine.ganger("queues", "resume", "children")
    engine.ganger("cancel", parents[0])
    assert engine.ganger("result", parents[1], "--wait", "20").code == Exit.OK, "the place of the other is enough"


def test_a_reader_that_goes_away_is_no_error(engine):
    engine.ganger("submit", "echo", "--wait")
    reader = subprocess.Popen(["head", "-c", "1"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    done = subprocess.run([sys.executable, "-m", "engine", "logs", "nobody"], env=engine.environment, cwd=HERE,
                          stdout=reader.stdin, stderr=subprocess.PIPE, text=True, check=False)
    assert "Traceback" not in done.stderr
    assert reader.stdin is not None
    reader.stdin.close()
    reader.wait()


def test_ctrl_c_ends_a_command_quietly(engine, held):
    task_id, _ = held
    follower = engine.popen("logs", task_id, "-f")
    assert follower.stdout is not None
    follower.stdout.readline()
    follower.send_signal(signal.SIGINT)
    _, errors = follower.communicate(timeout=PATIENCE_S)
    assert follower.returncode == Exit.INTERRUPTED
    assert "Traceback" not in errors


def test_run_ends_well_when_it_is_told_to(engine):
    """The last test of this file: it ends the engine."""
    assert engine.stop() == Exit.OK
    others = [row for row in engine.said if row["message"] != "a run has ended"]
    warned = [row for row in others if row["level"] not in ("DEBUG", "INFO")]
    assert len([row for row in warned if "waits for other tasks" in row["message"]]) == len(warned) <= 1
    await_end(Path(engine.environment["GANGER_DATA_DIR"]))


def test_run_that_cannot_start_its_redis_says_why():
    done = subprocess.run([sys.executable, "-m", "engine", "run", "--data-dir", "/proc/ganger"], cwd=ROOT, text=True,
                          capture_output=True, check=False)
    assert done.returncode == Exit.ENGINE
    assert done.stderr.startswith("ganger: cannot keep data in the folder /proc/ganger")
