"""reconcile finds what cannot be and puts it right, and touches nothing that is sound."""

from collections.abc import Callable

import pytest

from engine.core.task.lifecycle import TaskStatus
from tests.scripts.shop import HOUR_MS, Shop
from tests.scripts.test_refusals import reconcile_all
from tests.scripts.test_step import Supervisor

P = "ganger:{0}:"
NOBODY = "0" * 19
NORMAL = P + "lane:q:NORMAL"


def place_of(shop: Shop, task_id: str) -> set[str]:
    """The keys, beyond record and stored state, that have the id."""
    found = set()
    for key, value in shop.dump().items():
        members = {member for member, _ in value} if value and isinstance(value, list) and isinstance(
            value[0], tuple) else value if isinstance(value, set) else ()
        if task_id.encode() in members:
            found.add(key.removeprefix(P))
    return found


def lost_from_its_line(shop: Shop) -> tuple[str, str, set[str]]:
    task_id = shop.submit()
    shop.client.zrem(NORMAL, task_id)
    return task_id, "line", {"lane:q:NORMAL"}


def lost_from_its_line_with_a_life(shop: Shop) -> tuple[str, str, set[str]]:
    task_id = shop.ended()
    shop.broker.requeue(task_id)
    shop.client.zrem(NORMAL, task_id)
    return task_id, "line", {"lane:q:NORMAL"}


def lost_from_due(shop: Shop) -> tuple[str, str, set[str]]:
    task_id = shop.pending()
    shop.client.zrem(P + "due", task_id)
    return task_id, "due", {"due"}


def retried_before_the_clock_was_set_back(shop: Shop) -> tuple[str, str, set[str]]:
    task_id = shop.retrying()
    at_ms = shop.now_ms + HOUR_MS
    shop.set_life(task_id, TaskStatus.RETRYING, at_ms=at_ms)
    shop.client.zadd(P + "due", {task_id: at_ms + 1000})
    return task_id, "ahead", {"due"}


def never_to_be_removed(shop: Shop) -> tuple[str, str, set[str]]:
    task_id = shop.ended(TaskStatus.TIMEOUT)
    shop.client.zrem(P + "ended:TIMEOUT", task_id)
    return task_id, "ended", {"ended:TIMEOUT"}


def running_without_a_lease(shop: Shop) -> tuple[str, str, set[str]]:
    task_id = shop.claimed()
    shop.client.zrem(P + "supervisors", "sup")
    shop.client.delete(P + "running:sup")
    return task_id, "held", {"lane:q:NORMAL"}


def running_under_the_lease_of_nobody(shop: Shop) -> tuple[str, str, set[str]]:
    task_id = shop.claimed()
    shop.client.zrem(P + "supervisors", "sup")
    return task_id, "held", {"lane:q:NORMAL"}


def running_and_not_held(shop: Shop) -> tuple[str, str, set[str]]:
    task_id = shop.claimed()
    shop.client.delete(P + "running:sup")
    return task_id, "held", {"running:sup"}


def held_and_not_running(shop: Shop) -> tuple[str, str, set[str]]:
    shop.claimed()
    task_id = shop.submit()
    shop.client.sadd(P + "running:sup", task_id)
    return task_id, "set", {"lane:q:NORMAL"}


def held_without_a_task(shop: Shop) -> tuple[str, str, set[str]]:
    shop.claimed()
    shop.client.sadd(P + "running:sup", NOBODY)
    return NOBODY, "set", set()


def queued_without_a_task(shop: Shop) -> tuple[str, str, set[str]]:
    shop.submit()
    shop.client.zadd(NORMAL, {NOBODY: 1})
    return NOBODY, "zset", set()


def queued_twice(shop: Shop) -> tuple[str, str, set[str]]:
    task_id = shop.submit()
    shop.client.zadd(P + "lane:q:HIGH", {task_id: 1})
    shop.client.zadd(P + "round_robin:HIGH", {"q": 1})
    return task_id, "zset", {"lane:q:NORMAL"}


def due_after_its_end(shop: Shop) -> tuple[str, str, set[str]]:
    task_id = shop.ended()
    shop.client.zadd(P + "due", {task_id: 1})
    return task_id, "zset", {"ended:FAILED"}


def ended_otherwise(shop: Shop) -> tuple[str, str, set[str]]:
    task_id = shop.ended(TaskStatus.COMPLETED)
    shop.client.zadd(P + "ended:FAILED", {task_id: 1})
    return task_id, "zset", {"ended:COMPLETED"}


def a_life_without_a_task(shop: Shop) -> tuple[str, str, set[str]]:
    task_id = shop.submit()
    shop.client.hset(P + "states", NOBODY, "QUEUED 0 0 0 1 1 1 -")
    return task_id, "life", {"lane:q:NORMAL"}


FAULTS = [lost_from_its_line, lost_from_its_line_with_a_life, lost_from_due, never_to_be_removed,
          retried_before_the_clock_was_set_back,
          running_without_a_lease, running_under_the_lease_of_nobody,
          running_and_not_held, held_and_not_running, held_without_a_task,
          queued_without_a_task, queued_twice, due_after_its_end, ended_otherwise, a_life_without_a_task]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_mend(shop: Shop, fault: Callable[[Shop], tuple[str, str, set[str]]]) -> None:
    for _ in (shop.submit("other"), shop.pending(queue="other"), shop.claimed("other", supervisor="sound"),
              shop.ended(queue="other")):
        pass
    task_id, what, home = fault(shop)

    mended = reconcile_all(shop)

    mended.pop("flows", None)
    assert mended == {what: 1}
    assert place_of(shop, task_id) == home
    assert int(shop.dump()[P + "counters"][b"mended"]) == 1
    assert not reconcile_all(shop)
    assert shop.client.hget(P + "states", NOBODY) is None


def test_a_released_run_is_queued_at_its_place(shop: Shop) -> None:
    shop.submit()
    task_id, _, _ = running_without_a_lease(shop)
    reconcile_all(shop)
    state = shop.state(task_id)
    assert (state.status, state.run, state.rank, state.owner) == (TaskStatus.QUEUED, 1, 2, "-")


def test_flows_with_nothing_waiting_are_forgotten(shop: Shop) -> None:
    for key in ("a", "b"):
        shop.claimed(fair_key=key)
    shop.submit(fair_key="c")
    shop.submit(fair_key="c")
    assert reconcile_all(shop) == {"flows": 2}
    assert shop.dump()[P + "cursors:q:NORMAL"] == {b"v": b"2", b"k:c": b"4"}


def test_it_goes_through_everything_in_bounded_steps(shop: Shop) -> None:
    shop.broker.submit([shop.new() for _ in range(1500)])
    shop.client.zrem(NORMAL, *shop.client.zrange(NORMAL, 0, 9))
    cursor, steps, checked, mended = None, 0, 0, 0
    while True:
        seen = shop.keeper.audit(cursor)
        steps, checked, mended = steps + 1, checked + seen.checked, mended + seen.repaired["line"]
        assert seen.checked < 600
        cursor = seen.cursor
        if cursor is None:
            break
    assert mended == 10
    assert checked >= 2 * 1500
    assert shop.client.zcard(NORMAL) == 1500


def test_a_task_that_has_moved_on_since_it_was_looked_at_is_left_alone(shop: Shop) -> None:
    task_id, _, _ = running_without_a_lease(shop)
    suspect = shop.keeper._reconciling._suspect(P + "tasks", "task", task_id, shop.broker.read([task_id])[0])
    assert suspect is not None
    shop.settle(task_id, TaskStatus.COMPLETED)
    assert not shop.unchanged(lambda: shop.keeper._reconciling._mend([suspect]))
    shop.set_life(task_id, TaskStatus.RUNNING, "another", run=2)
    assert not shop.unchanged(lambda: shop.keeper._reconciling._mend([suspect]))


@pytest.mark.parametrize("options", [{"max_deliveries": 1}, {}])
def test_a_run_that_must_not_be_started_again_fails_when_its_supervisor_is_gone(shop: Shop, options: dict) -> None:
    if not options:
        shop.client.hset(P + "handlers", "t", b'{"name":"t","max_deliveries":1}')
    lost, held = shop.claimed(**options), shop.claimed(supervisor="alive", **options)
    shop.client.zrem(P + "supervisors", "sup")
    shop.client.delete(P + "running:sup", P + "running:alive")
    mended = reconcile_all(shop)
    assert mended["spent"] == 2
    stored = shop.broker.read([lost])[0]
    assert (stored.state.status, stored.outcome["cause"]) == (TaskStatus.FAILED, "lease_lost")
    assert (place_of(shop, lost), place_of(shop, held)) == ({"ended:FAILED"}, {"running:alive"})
    assert not reconcile_all(shop)


def test_when_all_states_are_lost_nothing_is_run_again_that_was_over_or_is_not_due(shop: Shop) -> None:
    """What other keys say of a task is believed, and its stored state written anew."""
    ended = {status: shop.ended(status) for status in (TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.TIMEOUT)}
    pending, retrying, running, queued = shop.pending(), shop.retrying(), shop.claimed(), shop.submit()
    shop.client.delete(shop.keys.states)
    assert reconcile_all(shop)["state"] == 6
    for status, task_id in ended.items():
        assert (shop.state(task_id).status, shop.state(task_id).run) == (status, 1)
        assert shop.client.zscore(shop.keys.ended(status), task_id) is not None
    assert (shop.state(pending).status, shop.state(pending).run) == (TaskStatus.PENDING, 0)
    assert (shop.state(retrying).status, shop.state(retrying).run) == (TaskStatus.RETRYING, 1)
    state = shop.state(running)
    assert (state.status, state.run, state.owner) == (TaskStatus.RUNNING, 1, "sup")
    assert shop.state(queued).status is TaskStatus.QUEUED
    assert shop.client.zrange(shop.keys.base + "lane:q:NORMAL", 0, -1) == [queued.encode()]
    assert not shop.unchanged(lambda: reconcile_all(shop))


def test_queues_that_were_deleted_come_back_with_their_tasks(shop: Shop) -> None:
    task_id = shop.submit()
    shop.client.delete(shop.keys.queues, shop.keys.base + "round_robin:NORMAL")
    assert reconcile_all(shop)["line"] == 1
    assert [stats["queue"] for stats in shop.broker.queue_stats()] == ["q"]
    assert Supervisor(shop).claim(1) == [task_id]


def test_a_line_of_a_queue_whose_pause_was_deleted_has_its_turn_again(shop: Shop) -> None:
    task_id, supervisor = shop.submit(), Supervisor(shop)
    shop.broker.pause("q")
    assert supervisor.claim(1) == []
    shop.client.delete(shop.keys.queues)
    assert supervisor.claim(1) == []
    reconcile_all(shop)
    assert supervisor.claim(1) == [task_id]
