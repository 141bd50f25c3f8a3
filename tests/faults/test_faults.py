"""Each call to Redis fails in turn, once or until somebody looks after it, in each way in which a call can fail; then
nothing is lost, and nothing has happened twice. Each scenario goes on until none of its calls is left."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from zlib import crc32

import pytest

from engine.core.task.lifecycle import TaskStatus
from engine.errors import MoveRefused
from tests.faults.fault_harness import FaultHarness
from tests.faults.seam import MODES, Mode, Seam
from tests.redis_server import RedisServer, binaries

COMPLETED, FAILED, CANCELLED = TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED
CALLS_MAX = 400
STRIDE = int(os.environ.get("FAULTS_STRIDE", "11"))  # `./dev faults` leaves no call out


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    server = RedisServer(binaries()[0])
    yield server
    server.stop()


@pytest.fixture
def seam(server: RedisServer, tmp_path: Path) -> Iterator[Seam]:
    seam = Seam(tmp_path, server.socket)
    yield seam
    seam.close()


def submit_and_run(harness: FaultHarness) -> None:
    for _ in range(3):
        harness.submit("works", COMPLETED)


def settle_an_end(harness: FaultHarness) -> None:
    harness.submit("fails", FAILED)


def retry(harness: FaultHarness) -> None:
    harness.submit("raises", COMPLETED)


def cancel(harness: FaultHarness) -> None:
    task_id = harness.submit("waits", CANCELLED)
    harness.pump(lambda: any(known == task_id for known, _ in harness.began), "it runs")
    ask_to_cancel(harness, task_id)


def rescue(harness: FaultHarness) -> None:
    task_id = harness.submit("waits", CANCELLED)
    harness.pump(lambda: any(known == task_id for known, _ in harness.began), "it runs")
    harness.lose_pool()
    harness.hire()
    harness.pump(lambda: sum(known == task_id for known, _ in harness.began) > 1, "it runs again")
    ask_to_cancel(harness, task_id)


def shut_down(harness: FaultHarness) -> None:
    task_id = harness.submit("waits", CANCELLED)
    harness.pump(lambda: any(known == task_id for known, _ in harness.began), "it runs")
    harness.leave()
    ask_to_cancel(harness, task_id)


def ask_to_cancel(harness: FaultHarness, task_id: str) -> None:
    """Said twice, where the first answer was lost, it may be over already."""
    try:
        harness.insist(lambda: harness.client.cancel(task_id, "why"))
    except MoveRefused:
        assert harness.status(task_id) is CANCELLED


@pytest.mark.timeout(600)
@pytest.mark.parametrize("for_good", [False, True], ids=["once", "for_good"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("scenario", [submit_and_run, settle_an_end, retry, cancel, rescue, shut_down],
                         ids=lambda scenario: scenario.__name__)
def test_whatever_call_fails_nothing_is_lost(server: RedisServer, seam: Seam, scenario: Callable[[FaultHarness], None],
                                             mode: Mode, for_good: bool) -> None:
    first = 1 + crc32(f"{scenario.__name__} {mode} {for_good}".encode()) % STRIDE
    with server.client() as direct:
        for nth in range(first, CALLS_MAX, STRIDE):
            with FaultHarness(server, seam, direct) as harness:
                seam.fail(nth, mode, for_good=for_good)
                try:
                    scenario(harness)
                    harness.pump(harness.have_ended, "all have ended")
                    has_failed = seam.has_failed
                    seam.heal()
                    harness.judge()
                except AssertionError as error:
                    raise AssertionError(f"call {nth} {mode}: {error}") from error
            if not has_failed:
                return
        pytest.fail("it goes on calling")
