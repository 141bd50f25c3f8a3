"""Ten thousand names of queues, as one hostile submitter makes them: nobody else is harmed, and all stays bounded."""

from collections.abc import Iterator

import pytest

from engine.adapters.redis.keeper.auditing import UNUSED_MS
from engine.client.filters import query_of
from engine.core.task.lifecycle import TaskStatus
from engine.core.task.priority import TaskPriority
from tests.redis_server import RedisServer
from tests.scripts.shop import Shop
from tests.scripts.test_refusals import reconcile_all
from tests.scripts.test_step import Supervisor

QUEUES = 10_000
WANT = 64
COMMANDS_MAX = 4_000  # of one step, those inside its script: some milliseconds

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def shop(redis_server: RedisServer) -> Iterator[Shop]:
    shop = Shop(redis_server)
    yield shop
    shop.close()


def flood(shop: Shop, task_type: str = "t") -> None:
    shop.broker.submit([shop.new(f"hostile-{number}", task_type=task_type) for number in range(QUEUES)])


def commands(shop: Shop) -> int:
    return sum(row["calls"] for row in shop.client.info("commandstats").values())


def claims(supervisor: Supervisor) -> Iterator[list[str]]:
    """Each step's, which stays bounded whatever waits; for as many steps as it takes to serve all queues once."""
    for _ in range(QUEUES // WANT + 50):
        before = commands(supervisor.shop)
        yield [task_id for task_id, _ in supervisor.step(want=WANT, held=2 * QUEUES)[1]]
        assert commands(supervisor.shop) - before < COMMANDS_MAX


def test_each_queue_has_its_turn_and_a_step_costs_the_same_as_ever(shop: Shop) -> None:
    early = [shop.submit("ours") for _ in range(3)]
    flood(shop)
    supervisor = Supervisor(shop)
    assert early[0] in supervisor.claim(WANT), "it came before those others"
    late = shop.submit("ours-too")
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
    assert shop.broker.status_counts()[TaskStatus.QUEUED] == 0


def test_those_of_a_type_that_nobody_knows_are_out_of_the_way_at_once(shop: Shop) -> None:
    flood(shop, "nobody's")
    ours = [shop.submit("ours") for _ in range(3)]
    supervisor = Supervisor(shop)
    served: list[str] = []
    for claimed in claims(supervisor):
        served += claimed
        if len(served) == len(ours):
            break
    assert served == ours
    assert supervisor.claim(WANT) == []
    assert shop.broker.unknown_types() == {"nobody's": QUEUES}
    more = shop.submit("ours")
    assert supervisor.claim(WANT) == [more]


def test_they_can_be_looked_at_mended_and_are_forgotten(shop: Shop) -> None:
    flood(shop)
    assert len(shop.broker.queue_stats()) == QUEUES
    assert shop.broker.status_counts()[TaskStatus.QUEUED] == QUEUES
    assert len(shop.broker.search(query_of({"status": TaskStatus.QUEUED}), 50).tasks) == 50
    shop.client.delete(shop.keys.round_robin(TaskPriority.NORMAL))
    assert reconcile_all(shop)["turn"] == QUEUES
    for claimed in claims(Supervisor(shop)):
        if not claimed:
            break
    reconcile_all(shop)
    assert shop.client.hlen(shop.keys.unused) == QUEUES
    past_ms = shop.now_ms - UNUSED_MS - 1
    for queue, noted in shop.client.hscan_iter(shop.keys.unused, count=1000):
        shop.client.hset(shop.keys.unused, queue, b"%d %s" % (past_ms, noted.split(b" ", 1)[1]))
    used = shop.submit("hostile-7")
    reconcile_all(shop)
    assert [stats["queue"] for stats in shop.broker.queue_stats()] == ["hostile-7"]
    assert shop.state(used).status is TaskStatus.QUEUED
    assert len(shop.client.keys(shop.keys.base + "cursors:*")) == 1


def test_a_foreign_entry_among_them_is_removed_and_stops_nothing(shop: Shop) -> None:
    shop.client.hset(shop.keys.queues, "not a name", 1)
    shop.client.zadd(shop.keys.base + "round_robin:NORMAL", {"not a name": 1})
    task_id = shop.submit()
    supervisor = Supervisor(shop)
    assert supervisor.claim(1) == [task_id]
    assert reconcile_all(shop)["stranger"] == 1
    assert supervisor.claim(1) == []
    assert "not a name" not in str(shop.dump())
    assert shop.keys.idle_supervisors in shop.dump(), "it sleeps"
