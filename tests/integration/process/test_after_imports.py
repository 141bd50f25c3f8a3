"""What the imports left that a fork does not carry over is found, and told where people look."""

from collections.abc import Iterator

import pytest

from engine.scheduler import Scheduler
from tests.integration.process.host_harness import HostHarness
from tests.redis_server import RedisServer, binaries

MODULE = "tests.integration.process.inheriting_handlers"
WAIT_S = 40


def test_threads_and_connections_of_the_imports_are_named_with_their_module() -> None:
    harness = HostHarness("tests.integration.process.parallel_handlers", MODULE)
    try:
        inherited = harness.start().inherited
    finally:
        harness.close()
    assert inherited["threads"] == {"reader": 1, "lock holder": 1}
    assert inherited["modules"] == [MODULE]
    (peer,) = inherited["sockets"]
    assert peer.startswith("127.0.0.1:")


def test_imports_that_leave_nothing_are_told_of_with_nothing() -> None:
    harness = HostHarness("tests.integration.process.host_handlers")
    try:
        assert harness.start().inherited == {}
    finally:
        harness.close()


@pytest.fixture(scope="module")
def engine() -> Iterator[Scheduler]:
    server = RedisServer(binaries()[0])
    scheduler = Scheduler(redis_url=server.url, handlers=[MODULE], max_workers=1)
    scheduler.start()
    yield scheduler
    scheduler.stop()
    server.stop()


def message(engine: Scheduler, task_type: str) -> str:
    task = engine.client.wait([engine.client.submit(task_type)], timeout=WAIT_S)[0]
    assert task.error is not None
    assert task.error.kind == "Timeout"
    return task.error.message


@pytest.mark.parametrize("task_type", ["ask-pool", "ask-lock"])
def test_a_run_that_waits_for_a_thread_of_the_fork_server_is_told_why(engine: Scheduler, task_type: str) -> None:
    told = message(engine, task_type)
    assert "s of CPU" in told
    assert "2 threads (" in told
    assert "1 connection (to 127.0.0.1:" in told
    assert "docs/libraries.md" in told


def test_a_run_that_used_the_processor_is_not_told_of_threads(engine: Scheduler) -> None:
    assert message(engine, "spin") == "still running after its timeout of 1 s"


def test_a_connection_of_the_imports_is_an_error_in_a_worker_and_stays_open_elsewhere(engine: Scheduler) -> None:
    """Two workers on one connection would read each other's answers."""
    task = engine.client.wait([engine.client.submit("ask-peer")], timeout=WAIT_S)[0]
    assert task.error is not None
    assert task.error.kind == "BrokenPipeError"
