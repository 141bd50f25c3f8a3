"""Workers that are held to cores of their own."""

import os

import pytest

from engine.core.worker.start_method import Starting
from engine.ports.host import Exited
from tests.integration.process.host_kit import Stage

HANDLERS = "tests.integration.process.host_handlers"
CORES = sorted(os.sched_getaffinity(0))
pytestmark = pytest.mark.skipif(len(CORES) < 2, reason="one core only")


@pytest.mark.parametrize("starting", [Starting(), Starting("fork", preload=False), Starting("spawn")], ids=str)
def test_each_worker_and_what_it_starts_has_its_share(starting: Starting) -> None:
    stage = Stage(HANDLERS, shares=((CORES[0],), (CORES[1],)), starting=starting)
    stage.start()
    for slot in (0, 1):
        stage.up(slot)
        assert stage.run("cores", slot=slot)[1]["result"] == [CORES[slot]]
    stage.close()
    assert sorted(os.sched_getaffinity(0)) == CORES, "the pool itself is held to none"


def test_a_worker_moves_where_one_has_left_a_core_to_nobody() -> None:
    stage = Stage(HANDLERS, shares=((CORES[0],), (CORES[1],)))
    stage.start()
    for slot in (0, 1, 2):
        stage.up(slot)
    assert stage.run("cores", slot=2)[1]["result"] == [CORES[0]]
    stage.host.quit(1)
    stage.wait_for(Exited)
    assert stage.run("cores", slot=2)[1]["result"] == [CORES[1]]
    stage.close()


def test_without_shares_workers_have_all_cores() -> None:
    stage = Stage(HANDLERS)
    stage.start()
    stage.up()
    assert stage.run("cores")[1]["result"] == CORES
    stage.close()
