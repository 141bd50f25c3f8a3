"""Workers that are held to cores of their own."""

import os

import pytest

from engine.core.worker.start_method import Starting
from engine.ports.host import Exited
from tests.integration.process.host_harness import HostHarness

HANDLERS = "tests.integration.process.host_handlers"
CORES = sorted(os.sched_getaffinity(0))
pytestmark = pytest.mark.skipif(len(CORES) < 2, reason="one core only")


@pytest.mark.parametrize("starting", [Starting(), Starting("fork", preload=False), Starting("spawn")], ids=str)
def test_each_worker_and_what_it_starts_has_its_share(starting: Starting) -> None:
    harness = HostHarness(HANDLERS, shares=((CORES[0],), (CORES[1],)), starting=starting)
    harness.start()
    for slot in (0, 1):
        harness.up(slot)
        assert harness.run("cores", slot=slot)[1]["result"] == [CORES[slot]]
    harness.close()
    assert sorted(os.sched_getaffinity(0)) == CORES, "the pool itself is held to none"


def test_a_worker_moves_where_one_has_left_a_core_to_nobody() -> None:
    harness = HostHarness(HANDLERS, shares=((CORES[0],), (CORES[1],)))
    harness.start()
    for slot in (0, 1, 2):
        harness.up(slot)
    assert harness.run("cores", slot=2)[1]["result"] == [CORES[0]]
    harness.host.quit(1)
    harness.wait_for(Exited)
    assert harness.run("cores", slot=2)[1]["result"] == [CORES[1]]
    harness.close()


def test_without_shares_workers_have_all_cores() -> None:
    harness = HostHarness(HANDLERS)
    harness.start()
    harness.up()
    assert harness.run("cores")[1]["result"] == CORES
    harness.close()
