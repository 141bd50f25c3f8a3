"""The Scheduler with a real tree: scripts as users write them, and how each of them ends."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from engine import Scheduler, TaskStatus, get_scheduler
from engine.client.default import default_client
from engine.errors import EngineError, InvalidHandler, InvalidSetting, TaskFailed
from engine.tasks.handler_spec import REGISTRY
from tests.integration.scheduler import scheduled
from tests.redis_server import RedisServer, binaries

START_S_MAX = 40.0
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    server = RedisServer(binaries()[0])
    yield server
    server.stop()


@pytest.fixture(scope="module")
def scheduler(server: RedisServer) -> Iterator[Scheduler]:
    """One engine for the tests that only use it."""
    kept = dict(REGISTRY)
    for name in [name for name in REGISTRY if not name.startswith("scheduled-")]:
        del REGISTRY[name]
    scheduler = Scheduler(redis_url=server.url, max_workers=2)
    scheduler.register_handler("scheduled-plain", scheduled.plain, queue="plain", max_retries=0)
    scheduler.register_handler("scheduled-again", scheduled.asks_again)
    with scheduler:
        yield scheduler
    REGISTRY.clear()
    REGISTRY.update(kept)


def test_a_redis_that_deletes_tasks_is_refused_unless_told_otherwise() -> None:
    server = RedisServer(binaries()[0], maxmemory="100mb", **{"maxmemory-policy": "allkeys-lru"})
    try:
        with pytest.raises(EngineError, match="maxmemory-policy is allkeys-lru, and must be noeviction"):
            Scheduler(redis_url=server.url, max_workers=1).start()
        with Scheduler(redis_url=server.url, max_workers=1, allow_eviction=True) as scheduler:
            assert scheduler.client.workers()
    finally:
        server.stop()


# -- a running engine -------------------------------------------------------------------------------------------------


def test_it_runs_what_is_registered_here(scheduler: Scheduler) -> None:
    task_id = scheduler.create_task(name="sum", task_type="scheduled-sum", payload={"a": 4})
    assert scheduler.result(task_id, wait=10) == 5
    task = scheduler.get(task_id)
    assert (task.name, task.queue, task.status) == ("sum", "sums", TaskStatus.COMPLETED)
    assert task.wall_s is not None
    assert task.pid in {child.pid for child in _below(scheduler)}
    assert scheduler.result(scheduler.submit("scheduled-plain", [1]), wait=10) == [1]
    assert scheduler.get(scheduler.submit("scheduled-plain")).queue == "plain"


def test_options_travel_with_a_function_that_was_registered_by_call(scheduler: Scheduler) -> None:
    told = scheduler.client.handlers()["scheduled-plain"]
    assert (told["queue"], told["max_retries"]) == ("plain", 0)
    assert scheduler.result(scheduler.submit("scheduled-again"), wait=10) == 3


def test_many_are_run(scheduler: Scheduler) -> None:
    ids = scheduler.submit_many({"task_type": "scheduled-plain", "payload": n} for n in range(500))
    assert [task.result for task in scheduler.wait(ids, timeout=30)] == list(range(500))


def test_a_failure_is_raised_where_the_result_is_asked_for(scheduler: Scheduler) -> None:
    task_id = scheduler.submit("scheduled-fail")
    with pytest.raises(TaskFailed, match="ValueError: attempt 2") as failure:
        scheduler.result(task_id, wait=10)
    assert failure.value.cause == "raised"
    assert "raise ValueError" in failure.value.outcome["error"]["traceback"]
    assert scheduler.task_status(task_id) is TaskStatus.FAILED


def test_the_shortcut_of_a_handler_goes_to_the_engine_that_runs(scheduler: Scheduler) -> None:
    assert default_client() is scheduler.client
    assert scheduler.result(scheduled.scheduled_sum.submit(a=1, b=2), wait=10) == 3


def test_the_status_tells_of_pools_workers_and_tasks(scheduler: Scheduler, tmp_path: Path) -> None:
    path = tmp_path / "let go"
    os.mkfifo(path)
    task_id = scheduler.submit("scheduled-hold", str(path))
    _until(lambda: scheduler.status().busy == 1)
    status = scheduler.status()
    assert (status.state, status.workers) == ("running", 2)
    assert status.pid is not None
    assert status.tasks["RUNNING"] == 1
    assert [slot["task"]["id"] for slot in status.pools[0]["slots"] if slot["task"]] == [task_id]
    path.write_text("")
    scheduler.result(task_id, wait=10)


def test_handlers_are_registered_before_the_start(scheduler: Scheduler) -> None:
    with pytest.raises(EngineError, match="while the engine runs"):
        scheduler.register_handler("late", scheduled.plain)
    assert "late" not in REGISTRY


def test_a_second_start_changes_nothing(scheduler: Scheduler) -> None:
    pid = scheduler.status().pid
    scheduler.start()
    assert scheduler.status().pid == pid


# -- life -------------------------------------------------------------------------------------------------------------


def test_restart_and_stop(redis_url: str, tmp_path: Path) -> None:
    scheduler = Scheduler(redis_url=redis_url, max_workers=1)
    assert scheduler.status().state == "stopped"
    scheduler.stop()
    scheduler.start()
    first = scheduler.status().pid
    assert first is not None
    task_id = scheduler.submit("scheduled-sum", {"a": 1})
    assert scheduler.result(task_id, wait=10) == 2
    scheduler.restart()
    assert scheduler.status().pid not in (None, first)
    family = _below(scheduler)
    scheduler.stop()
    assert not scheduler.is_running
    assert not [child for child in family if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
    assert scheduler.result(task_id) == 2
    assert scheduler.join(0)
    scheduler.close()


def test_a_tree_that_dies_is_noticed(redis_url: str) -> None:
    scheduler = Scheduler(redis_url=redis_url, max_workers=1)
    scheduler.start()
    pid = scheduler.status().pid
    assert pid is not None
    assert not scheduler.join(0)
    os.kill(pid, signal.SIGKILL)
    assert scheduler.join(10)
    status = scheduler.status()
    assert (status.state, status.exit_code) == ("failed", -signal.SIGKILL)
    scheduler.start()
    assert scheduler.result(scheduler.submit("scheduled-sum", {"a": 1}), wait=10) == 2
    scheduler.close()


def test_there_is_one_scheduler_of_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.scheduler.scheduler._ProcessScheduler.scheduler", None)
    scheduler = get_scheduler(max_workers=1)
    assert get_scheduler() is scheduler
    assert get_scheduler(max_workers=1) is scheduler
    with pytest.raises(InvalidSetting, match="made with other settings"):
        get_scheduler(max_workers=2)
    with pytest.raises(InvalidSetting, match="did you mean 'max_workers'"):
        Scheduler(max_worker=2)


def test_a_redis_that_is_not_there_keeps_it_from_starting(tmp_path: Path) -> None:
    scheduler = Scheduler(redis_url=f"unix://{tmp_path}/no.sock", boot_timeout_s=1, max_workers=1)
    with pytest.raises(EngineError):
        scheduler.start()
    assert scheduler.status().state == "stopped"


def test_a_name_that_means_something_else_by_now_is_refused(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler = Scheduler(redis_url=redis_url)
    scheduler.register_handler("scheduled-moved", scheduled.plain)
    try:
        monkeypatch.setattr(scheduled, "plain", scheduled.hold)
        with pytest.raises(InvalidHandler, match="by now the name of something else"):
            scheduler.start()
    finally:
        del REGISTRY["scheduled-moved"]


# -- scripts ----------------------------------------------------------------------------------------------------------


class Script:
    """A user's script in an empty folder."""

    def __init__(self, folder: Path, text: str, name: str = "script.py") -> None:
        self.folder, self.path = folder, folder / name
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(textwrap.dedent(text))

    def start(self, *command: str) -> "subprocess.Popen[str]":
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "GANGER_MAX_WORKERS": "1"}
        return subprocess.Popen([sys.executable, *(command or (str(self.path),))], cwd=self.folder, env=environment,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def run(self, *command: str) -> tuple[int, str, str]:
        process = self.start(*command)
        out, err = process.communicate(timeout=START_S_MAX)
        return process.returncode, out, err


WORD_FOR_WORD = """
    from engine import get_scheduler, TaskPriority
    scheduler = get_scheduler()
    def my_handler(payload): return f"Processed: {payload['data']}"
    scheduler.register_handler("my_task", my_handler)
    scheduler.start()
    task_id = scheduler.create_task(name="my task", task_type="my_task", payload={"data": "test"},
                                    priority=TaskPriority.HIGH)
    print(scheduler.result(task_id, wait=10)); scheduler.stop()      # start, stop, restart, status
"""


def test_one_script_with_no_other_set_up(tmp_path: Path) -> None:
    code, out, err = Script(tmp_path, WORD_FOR_WORD).run()
    assert (code, out, err) == (0, "Processed: test\n", "")
    _gone(tmp_path)


def test_a_script_as_a_module_with_a_guard_models_and_decorators(tmp_path: Path) -> None:
    script = Script(tmp_path, """
        from __future__ import annotations
        from pydantic import BaseModel
        from engine import Client, Context, get_scheduler, handler
        from . import neighbour

        print("once")

        class Order(BaseModel):
            book: str

        @handler("order", timeout=20)
        def order(payload: Order, ctx: Context) -> str:
            return f"{payload.book} {ctx.run} {neighbour.WORD} {__name__}"

        if __name__ == "__main__":
            scheduler = get_scheduler()
            with scheduler:
                print(scheduler.result(order.submit(book="Emma"), wait=10))
                print(order(Order(book="direct"), Context("", "", "")))
    """, "shop/app.py")
    (tmp_path / "shop" / "__init__.py").write_text("")
    (tmp_path / "shop" / "neighbour.py").write_text("WORD = 'next door'")
    code, out, err = script.run("-m", "shop.app")
    assert code == 0, err
    assert out.splitlines() == ["once", "Emma 1 next door __main__", "direct 1 next door __main__"]
    _gone(tmp_path)


@pytest.mark.parametrize(("lines", "words"), [
    ("scheduler.register_handler('x', lambda payload: 1)", "it is a lambda"),
    ("def outer():\n    def inner(payload): ...\n    return inner\nscheduler.register_handler('x', outer())",
     "defined inside outer()"),
    ("import handlers_that_fail", "ZeroDivisionError"),
])
def test_what_cannot_work_is_said_in_the_script(tmp_path: Path, lines: str, words: str) -> None:
    (tmp_path / "handlers_that_fail.py").write_text("1 / 0")
    code, _, err = Script(tmp_path, f"from engine import get_scheduler\nscheduler = get_scheduler()\n{lines}\n").run()
    assert code == 1
    assert words in err


def test_a_handler_that_only_this_process_can_import_is_reported_with_its_traceback(tmp_path: Path) -> None:
    (tmp_path / "once.py").write_text(textwrap.dedent("""
        import os, sys
        from engine import handler
        if os.getpid() != int(os.environ["MAIN_PID"]):
            raise RuntimeError("not here")
        @handler("once")
        def once(payload): ...
    """))
    code, _, err = Script(tmp_path, """
        import os
        os.environ["MAIN_PID"] = str(os.getpid())
        import once
        from engine import get_scheduler
        get_scheduler().start()
    """).run()
    assert code == 1
    assert "EngineError: the engine did not start" in err
    assert "not all handlers can be imported: mend the module once" in err
    assert "RuntimeError: not here" in err
    _gone(tmp_path)


def test_modules_of_the_settings_that_fail_are_reported(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import no_such_module")
    code, _, err = Script(tmp_path, """
        from engine import get_scheduler
        get_scheduler(handlers=["broken"]).start()
    """).run()
    assert code == 1
    assert "No module named 'no_such_module'" in err
    _gone(tmp_path)


HOLDING = """
    import os, pathlib, signal, sys
    from engine import get_scheduler
    def hold(payload):
        pathlib.Path("held").write_text(str(os.getpid()))
        open("let go").read()
        return "held"
    scheduler = get_scheduler(shutdown_grace_s=20)
    scheduler.register_handler("hold", hold)
    scheduler.start()
    task_id = scheduler.submit("hold")
    print(task_id, scheduler.status().pid, flush=True)
    {end}
"""


def _holding(folder: Path, end: str) -> Script:
    """A script with a task that runs until somebody opens the pipe `let go`, and how it ends."""
    os.mkfifo(folder / "let go")
    return Script(folder, HOLDING.replace("{end}", end))


def test_a_script_that_ends_stops_its_engine_and_lets_tasks_finish(tmp_path: Path) -> None:
    process = _holding(tmp_path, "").start()
    _until((tmp_path / "held").exists)
    (tmp_path / "let go").write_text("")
    assert process.wait(timeout=START_S_MAX) == 0
    _gone(tmp_path)


def test_control_c_reaches_the_script_and_not_its_workers(tmp_path: Path) -> None:
    """As at a terminal: the signal goes to the process group of the script."""
    process = _holding(tmp_path, "scheduler.result(task_id, wait=60)").start()
    _until((tmp_path / "held").exists)
    worker = psutil.Process(int((tmp_path / "held").read_text()))
    process.send_signal(signal.SIGINT)
    assert worker.is_running()
    (tmp_path / "let go").write_text("")
    _, err = process.communicate(timeout=START_S_MAX)
    assert "KeyboardInterrupt" in err
    _gone(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_script_that_is_killed_takes_its_engine_with_it(tmp_path: Path, number: int) -> None:
    process = _holding(tmp_path, "signal.pause()").start()
    assert process.stdout is not None
    _, root = process.stdout.readline().split()
    tree = psutil.Process(int(root))
    _until((tmp_path / "held").exists)
    family = [tree, *tree.children(recursive=True)]
    process.send_signal(number)
    process.wait(timeout=10)
    _, alive = psutil.wait_procs(family, timeout=15)
    assert not alive
    _gone(tmp_path)


def test_a_fork_of_the_script_neither_stops_nor_keeps_the_engine(tmp_path: Path) -> None:
    script = _holding(tmp_path, """
    if os.fork() == 0:
        scheduler.stop()
        sys.exit(0)
    os.wait()
    assert scheduler.is_running
    open("let go", "w").close()
    print(scheduler.result(task_id, wait=10))
    """)
    code, out, err = script.run()
    assert code == 0, err
    assert out.splitlines()[-1] == "held"
    _gone(tmp_path)


def test_a_script_that_reads_its_arguments_has_them_in_the_workers_too(tmp_path: Path) -> None:
    script = Script(tmp_path, """
        import argparse
        from engine import get_scheduler
        parser = argparse.ArgumentParser()
        parser.add_argument("--times", type=int, required=True)
        times = parser.parse_args().times
        def multiply(payload): return payload * times
        scheduler = get_scheduler()
        scheduler.register_handler("multiply", multiply)
        scheduler.start()
        print(scheduler.result(scheduler.submit("multiply", "é"), wait=10))
    """)
    code, out, err = script.run(str(script.path), "--times", "3")
    assert (code, out) == (0, "ééé\n"), err


def test_a_script_that_submits_before_the_start_submits_once(tmp_path: Path) -> None:
    code, out, err = Script(tmp_path, """
        from engine import Client, get_scheduler
        scheduler = get_scheduler()
        def count(payload): return payload
        scheduler.register_handler("count", count)
        task_id = Client().submit("count", 1)
        scheduler.start()
        print(scheduler.result(task_id, wait=10), len(scheduler.tasks()))
    """).run()
    assert code == 0, err
    assert out == "1 1\n"
    _gone(tmp_path)


def test_a_start_and_a_submit_in_an_imported_module_are_done_once(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(textwrap.dedent("""
        from engine import get_scheduler
        scheduler = get_scheduler()
        def count(payload): return payload
        scheduler.register_handler("count", count)
        scheduler.start()
        task_id = scheduler.submit("count", 1)
    """))
    code, out, err = Script(tmp_path, """
        import app
        print(app.scheduler.result(app.task_id, wait=10), len(app.scheduler.tasks()))
    """).run()
    assert code == 0, err
    assert out == "1 1\n"
    _gone(tmp_path)


def _below(scheduler: Scheduler) -> list[psutil.Process]:
    pid = scheduler.status().pid
    assert pid is not None
    return psutil.Process(pid).children(recursive=True)


def _gone(folder: Path) -> None:
    """Nothing that the script started is left, its Redis included."""
    def left() -> list[Any]:
        return [process.info for process in psutil.process_iter(["pid", "cwd", "cmdline"])
                if (process.info["cwd"] or "").startswith(str(folder))]

    try:
        _until(lambda: not left())
    except AssertionError:
        raise AssertionError(f"left: {json.dumps(left())}") from None


def _until(true: Callable[[], Any], patience_s: float = 20.0) -> None:
    pause, until_s = threading.Event(), time.monotonic() + patience_s
    while not true():
        assert time.monotonic() < until_s
        pause.wait(0.01)


@pytest.mark.parametrize("closed", ["2>&-", ">&- 2>&- <&-"])
def test_a_script_whose_standard_streams_are_closed(tmp_path: Path, closed: str) -> None:
    (tmp_path / "app.py").write_text(textwrap.dedent("""
        from pathlib import Path

        from engine import Scheduler, handler


        @handler("square")
        def square(x):
            print("on stdout")
            return x * x


        if __name__ == "__main__":
            with Scheduler(max_workers=1) as scheduler:
                Path("result").write_text(str(scheduler.client.result(scheduler.client.submit("square", 7), wait=30)))
    """))
    command = f'exec "{sys.executable}" app.py {closed}'
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "GANGER_DATA_DIR": str(tmp_path / "data")}
    subprocess.run(["bash", "-c", command], cwd=tmp_path, env=environment, check=True, timeout=START_S_MAX)
    assert (tmp_path / "result").read_text() == "49"
