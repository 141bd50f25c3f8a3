"""Whatever a handler's module does to its process at import: workers run, are interrupted, die, and are told of."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.ports.host import Exited, ServerLost
from tests.integration.process.host_harness import HostHarness

PATIENT_S = 5.0


@pytest.fixture(scope="module", params=["block", "ignore", "reap", "patch", "alarm", "handle", "close"])
def harness(request: pytest.FixtureRequest) -> Iterator[HostHarness]:
    harness = HostHarness("tests.integration.process.hostile_imports", environment={"WHAT": request.param},
                          dump_s=PATIENT_S)
    assert harness.start().failures == {}
    yield harness
    harness.close()


@pytest.fixture
def worker(harness: HostHarness) -> HostHarness:
    return harness.ready()


def test_a_hung_run_is_killed_with_its_stacks_and_the_slot_is_filled_again(worker: HostHarness) -> None:
    for _ in range(2):
        worker.begin("hang")
        mortem = worker.end().post_mortem
        assert mortem is not None
        assert "in hang" in mortem["stacks"]
        worker.up()


def test_a_soft_timeout_arrives(worker: HostHarness) -> None:
    token, _ = worker.begin("soft")
    worker.host.interrupt(0, token, b"S")
    assert worker.reply(token)[1]["result"] == "cleaned up"


def test_a_worker_that_dies_is_reported(worker: HostHarness, request: pytest.FixtureRequest) -> None:
    worker.send("die", 7)
    ended = worker.wait_for(Exited)
    reaped_by_the_module = "reap" in request.node.name
    assert (ended.exitcode, ended.signal) == (7, None) or (reaped_by_the_module and ended.exitcode is None)


def test_a_module_that_closes_the_way_to_the_pool_is_blamed_in_words(
        tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "closes_all.py").write_text(
        "import os, threading\nos.closerange(3, 4096)\nthreading.Event().wait(0.2)\n")  # the pool notices first
    harness = HostHarness("closes_all", sys_path=(str(tmp_path), *(path or os.getcwd() for path in sys.path)))
    try:
        harness.host.start()
        harness.wait_for(ServerLost)
        assert "an imported module has closed descriptors that are not its own" in capfd.readouterr().err
    finally:
        harness.close()
