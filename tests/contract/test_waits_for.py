"""Why a task that could run does not, in words; and which types nobody can run."""

from collections.abc import Iterator

import pytest

from engine.core.task.lifecycle import TaskStatus
from engine.core.task.names import types_in_words
from tests.redis_server import RedisServer
from tests.scripts.broker_rig import BrokerRig
from tests.scripts.test_step import Supervisor


@pytest.fixture
def rig(redis_server: RedisServer) -> Iterator[BrokerRig]:
    rig = BrokerRig(redis_server)
    yield rig
    rig.close()


def reason(rig: BrokerRig, task_id: str) -> str | None:
    (stored,) = rig.broker.read([task_id])
    assert stored is not None
    return rig.broker.reason(stored)


def test_each_reason_has_its_words(rig: BrokerRig) -> None:
    task_id, foreign = rig.submit(), rig.submit(task_type="new")
    assert reason(rig, task_id) == "no pool is running"
    supervisor = Supervisor(rig)
    supervisor.step()
    assert reason(rig, task_id) is None, "it waits for its turn"
    assert reason(rig, foreign) == "no living pool knows the type 'new'"
    supervisor.step(report=b'{"queues":["x"]}')
    assert reason(rig, task_id) == "no living pool that knows the type 't' serves the queue 'q'"
    down = '"queues":["q"],"hook_failures":{"app:connect":"OSError: no database"},"slots":[{"slot":0,"state":"down"}'
    supervisor.step(report=f"{{{down}]}}".encode())
    assert reason(rig, task_id) == "no worker can start: app:connect raised OSError: no database"
    supervisor.step(report=f'{{{down},{{"slot":1,"state":"idle"}}]}}'.encode())
    assert reason(rig, task_id) is None, "another worker has started"
    rig.broker.pause("q")
    assert reason(rig, task_id) == "its queue 'q' is paused"
    ended = rig.ended()
    assert rig.state(ended).status is TaskStatus.FAILED
    assert reason(rig, ended) is None


@pytest.mark.parametrize("report", [b'{"queues":5}', b'{"queues":"x"}', b'{"queues":[7]}', b"[]", b"no JSON"])
def test_a_report_that_makes_no_sense_is_no_reason_to_wait(rig: BrokerRig, report: bytes) -> None:
    task_id, supervisor = rig.submit(), Supervisor(rig)
    supervisor.step(report=report)
    assert reason(rig, task_id) is None


def test_types_that_no_living_pool_knows_are_counted(rig: BrokerRig) -> None:
    assert rig.broker.unknown_types() == {}
    for task_type in ("new", "new", "other"):
        rig.submit(task_type=task_type)
    Supervisor(rig, "old").claim(9)
    assert rig.broker.unknown_types() == {"new": 2, "other": 1}
    Supervisor(rig, "other", types=("other",)).step()
    assert rig.broker.unknown_types() == {"new": 2}
    rig.client.zadd(rig.keys.supervisors, {"other": 1})
    assert rig.broker.unknown_types() == {"new": 2, "other": 1}, "it does not live"


def test_they_are_shown_in_few_words() -> None:
    assert types_in_words({"b": 1, "a": 20}) == "20 of 'a', 1 of 'b'"
    assert types_in_words({f"t{n}": 1 for n in range(7)}).endswith("and of 2 more types")
