"""Deploys that go wrong: `ganger run` ends in words, and what waits goes on waiting."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine import Client
from engine.adapters.redis.embedded.server import EmbeddedRedis, open_embedded
from engine.cli.exit_codes import Exit
from engine.core.task.lifecycle import TaskStatus

GOOD = "from engine import handler\n@handler('{0}')\ndef run(payload):\n    return '{0}'\n"
LIMIT_S = 60.0

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    with open_embedded(tmp_path_factory.mktemp("redis") / "data") as embedded:
        yield embedded


@pytest.fixture
def client(redis: EmbeddedRedis, tmp_path: Path) -> Iterator[Client]:
    with Client(redis_url=redis.url, queue_prefix=tmp_path.name[-40:], unknown_types="accept") as client:
        yield client


@pytest.fixture
def start(redis: EmbeddedRedis, tmp_path: Path) -> Iterator[Start]:
    """Starts `ganger run` on modules given by name, with one worker."""
    started: list[subprocess.Popen[str]] = []

    def run(*modules: str, flags: tuple[str, ...] = ()) -> "subprocess.Popen[str]":
        environ = {name: value for name, value in os.environ.items() if not name.startswith("GANGER_")}
        command = [sys.executable, "-m", "engine", "run", "--redis-url", redis.url, "--max-workers", "1",
                   "--set", f"queue_prefix={tmp_path.name[-40:]}", *flags]
        for module in modules:
            command += ["--handlers", module]
        process = subprocess.Popen(command, cwd=tmp_path, env=environ, text=True, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.PIPE)
        started.append(process)
        return process

    yield run
    for process in started:
        process.terminate()
    for process in started:
        process.communicate(timeout=LIMIT_S)


def test_a_module_that_cannot_be_imported_ends_it_with_5_and_its_traceback(
        start: Start, client: Client, tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text("import a_package_that_is_missing\n" + GOOD.format("work"))
    waiting = [client.submit("work") for _ in range(20)]
    process = start("tasks")
    _, told = process.communicate(timeout=LIMIT_S)
    assert process.returncode == Exit.ENGINE
    *_, place, line, reason, last = told.splitlines()
    assert "tasks.py" in place
    assert line.strip() == "import a_package_that_is_missing"
    assert reason == "ModuleNotFoundError: No module named 'a_package_that_is_missing'"
    assert "mend the module tasks" in last
    assert "allow_missing_handlers" in last
    assert {client.status(task_id) for task_id in waiting} == {TaskStatus.QUEUED}


def test_a_module_whose_import_fails_at_great_length_ends_it_in_words(start: Start, tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text("raise ImportError('x' * 300_000)\n")
    process = start("tasks")
    _, told = process.communicate(timeout=LIMIT_S)
    assert process.returncode == Exit.ENGINE
    assert "characters left out" in told
    assert "ganger: not all handlers can be imported: mend the module tasks" in told


def test_without_any_handler_it_says_how_to_name_one(start: Start) -> None:
    process = start()
    _, told = process.communicate(timeout=LIMIT_S)
    assert process.returncode == Exit.ENGINE
    assert "--handlers MODULE" in told.splitlines()[-1]


def test_it_goes_on_without_what_is_missing_where_that_is_allowed_and_leaves_those_tasks_alone(
        start: Start, client: Client, tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text(GOOD.format("one"))
    (tmp_path / "two.py").write_text("import a_package_that_is_missing\n" + GOOD.format("two"))
    foreign = [client.submit("two") for _ in range(20)]
    start("one", "two", flags=("--allow-missing-handlers",))
    assert client.result(client.submit("one"), wait=LIMIT_S) == "one"
    assert {client.status(task_id) for task_id in foreign} == {TaskStatus.QUEUED}
    (tmp_path / "three.py").write_text(GOOD.format("two"))
    start("three")
    assert [task.result for task in client.wait(foreign, timeout=LIMIT_S)] == ["two"] * 20
    assert {task.run for task in client.wait(foreign, timeout=LIMIT_S)} == {1}, "nothing was charged for the wait"
