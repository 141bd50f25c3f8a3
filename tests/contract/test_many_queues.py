"""Ten thousand names of queues, as one hostile submitter makes them: nobody else is harmed, and all stays bounded."""

from collections.abc import Iterator

import pytest

from engine.adapters.redis.keeper.audit import UNUSED_MS
from engine.client.filters import query_of
from engine.core.task.lifecycle import TaskStatus
from engine.core.task.priority import TaskPriority
from tests.redis_server import RedisServer
from tests.scripts.broker_rig import BrokerRig
from tests.scripts.test_refusals import reconcile_all
from tests.scripts.test_step import Supervisor

QUEUES = 10_000
WANT = 64
COMMANDS_MAX = 4_000  # of one step, those inside its script: some milliseconds

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def rig(redis_server: RedisServer) -> Iterator[BrokerRig]:
    rig = BrokerRig(redis_server)
    yield rig
    rig.close()


def flood(rig: BrokerRig, task_type: str = "t") -> None:
    rig.broker.submit([rig.new(f"hostile-{number}", task_type=task_type) for number in range(QUEUES)])


def commands(rig: BrokerRig) -> int:
    return sum(row["calls"] for row in rig.client.info("commandstats").values())


def claims(supervisor: Supervisor) -> Iterator[list[str]]:
    """Each step's, which stays bounded whatever waits; for as many steps as it takes to serve all queues once."""
    for _ in range(QUEUES // WANT + 50):
        before = commands(supervisor.rig)
        yield [task_id for task_id, _ in supervisor.step(want=WANT, held=2 * QUEUES)[1]]
        assert commands(supervisor.rig) - before < COMMANDS_MAX


def test_each_queue_has_its_turn_and_a_step_costs_the_same_as_ever(rig: BrokerRig) -> None:
    early = [rig.submit("ours") for _ in range(3)]
    flood(rig)
    supervisor = Supervisor(rig)
    assert early[0] in supervisor.claim(WANT), "it came before those others"
    late = rig.submit("ours-too")
    served: set[str] = set()
    for claimed in claims(supervisor):
        served.update(claimed)
        if late in served:
            break
    assert late in served
    assert early[1] in served
    for claimed in claims(supervisor):
        if not claimed:
            break
        served.update(claimed)
    assert rig.broker.status_counts()[TaskStatus.QUEUED] == 0


def test_those_of_a_type_that_nobody_knows_are_out_of_the_way_at_once(rig: BrokerRig) -> None:
    flood(rig, "nobody's")
    ours = [rig.submit("ours") for _ in range(3)]
    supervisor = Supervisor(rig)
    served: list[str] = []
    for claimed in claims(supervisor):
        served += claimed
        if len(served) == len(ours):
            break
    assert served == ours
    assert supervisor.claim(WANT) == []
    assert rig.broker.unknown_types() == {"nobody's": QUEUES}
    more = rig.submit("ours")
    assert supervisor.claim(WANT) == [more]


def test_they_can_be_looked_at_mended_and_are_forgotten(rig: BrokerRig) -> None:
    flood(rig)
    assert len(rig.broker.queue_stats()) == QUEUES
    assert rig.broker.status_counts()[TaskStatus.QUEUED] == QUEUES
    assert len(rig.broker.search(query_of({"status": TaskStatus.QUEUED}), 50).tasks) == 50
    rig.client.delete(rig.keys.round_robin(TaskPriority.NORMAL))
    assert reconcile_all(rig)["turn"] == QUEUES
    for claimed in claims(Supervisor(rig)):
        if not claimed:
            break
    reconcile_all(rig)
    assert rig.client.hlen(rig.keys.unused) == QUEUES
    past_ms = rig.now_ms - UNUSED_MS - 1
    for queue, noted in rig.client.hscan_iter(rig.keys.unused, count=1000):
        rig.client.hset(rig.keys.unused, queue, b"%d %s" % (past_ms, noted.split(b" ", 1)[1]))
    used = rig.submit("hostile-7")
    reconcile_all(rig)
    assert [stats["queue"] for stats in rig.broker.queue_stats()] == ["hostile-7"]
    assert rig.state(used).status is TaskStatus.QUEUED
    assert len(rig.client.keys(rig.keys.base + "cursors:*")) == 1


def test_a_foreign_entry_among_them_is_removed_and_stops_nothing(rig: BrokerRig) -> None:
    rig.client.hset(rig.keys.queues, "not a name", 1)
    rig.client.zadd(rig.keys.base + "round_robin:NORMAL", {"not a name": 1})
    task_id = rig.submit()
    supervisor = Supervisor(rig)
    assert supervisor.claim(1) == [task_id]
    assert reconcile_all(rig)["stranger"] == 1
    assert supervisor.claim(1) == []
    assert "not a name" not in str(rig.dump())
    assert rig.keys.idle_supervisors in rig.dump(), "it sleeps"
