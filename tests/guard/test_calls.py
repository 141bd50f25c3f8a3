"""What it costs a client to get a finished task into its hands, in calls of functions: the same in each run."""

import sys
from collections.abc import Callable, Iterator

import pytest

from engine import Client
from tests.redis_server import RedisServer
from tests.scripts.broker_rig import BrokerRig

TASKS = 500
CALLS_MAX = 60  # per task; it was 180 when every field was read and validated at once


@pytest.fixture
def rig(redis_server: RedisServer) -> Iterator[BrokerRig]:
    rig = BrokerRig(redis_server)
    yield rig
    rig.close()


def calls(of: Callable[[], object]) -> int:
    """Calls of functions, of Python's and of C's."""
    counted = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal counted
        counted += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        of()
    finally:
        sys.setprofile(None)
    return counted


def test_calls_for_a_task_that_is_waited_for_and_its_result(rig: BrokerRig) -> None:
    outcome = (b'{"run":1,"cause":"returned","result":{"n":7},"started_ms":1764500000000,"ended_ms":1764500000001,'
               b'"wall_s":0.000012,"cpu_s":0.000012,"peak_rss_bytes":12345678,"logs_dropped_bytes":0,"worker":"w/0",'
               b'"pid":4242}')
    ids = rig.broker.submit([rig.new() for _ in range(TASKS)])
    for task_id in ids:
        rig.client.hset(rig.keys.states, task_id, "COMPLETED 1 0 0 1 7 1764500000001 -")
        rig.client.hset(rig.keys.outcomes, f"{task_id}:1", outcome)
    with Client(rig.broker.redis.url) as client:
        ways: dict[str, Callable[[], object]] = {
            "wait": lambda: [task.result for task in client.wait(ids)],
            "as_completed": lambda: [task.result for task in client.as_completed(ids)],
            "results": lambda: list(client.results(ids)),
        }
        for name, way in ways.items():
            way()
            assert calls(way) / TASKS <= CALLS_MAX, name
