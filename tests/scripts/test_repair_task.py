"""reconcile finds what cannot be and puts it right, and touches nothing that is sound."""

from collections.abc import Callable

import pytest

from engine.core.task.lifecycle import TaskStatus
from tests.scripts.broker_rig import HOUR_MS, BrokerRig
from tests.scripts.test_refusals import reconcile_all
from tests.scripts.test_step import Supervisor

P = "ganger:{0}:"
NOBODY = "0" * 19
NORMAL = P + "lane:q:NORMAL"


def place_of(rig: BrokerRig, task_id: str) -> set[str]:
    """The keys, beyond record and stored state, that have the id."""
    found = set()
    for key, value in rig.dump().items():
        members = {member for member, _ in value} if value and isinstance(value, list) and isinstance(
            value[0], tuple) else value if isinstance(value, set) else ()
        if task_id.encode() in members:
            found.add(key.removeprefix(P))
    return found


def lost_from_its_line(rig: BrokerRig) -> tuple[str, str, set[str]]:
    task_id = rig.submit()
    rig.client.zrem(NORMAL, task_id)
    return task_id, "line", {"lane:q:NORMAL"}


def lost_from_its_line_with_a_life(rig: BrokerRig) -> tuple[str, str, set[str]]:
    task_id = rig.ended()
    rig.broker.requeue(task_id)
    rig.client.zrem(NORMAL, task_id)
    return task_id, "line", {"lane:q:NORMAL"}


def lost_from_due(rig: BrokerRig) -> tuple[str, str, set[str]]:
    task_id = rig.pending()
    rig.client.zrem(P + "due", task_id)
    return task_id, "due", {"due"}


def retried_before_the_clock_was_set_back(rig: BrokerRig) -> tuple[str, str, set[str]]:
    task_id = rig.retrying()
    at_ms = rig.now_ms + HOUR_MS
    rig.set_life(task_id, TaskStatus.RETRYING, at_ms=at_ms)
    rig.client.zadd(P + "due", {task_id: at_ms + 1000})
    return task_id, "ahead", {"due"}


def never_to_be_removed(rig: BrokerRig) -> tuple[str, str, set[str]]:
    task_id = rig.ended(TaskStatus.TIMEOUT)
    rig.client.zrem(P + "ended:TIMEOUT", task_id)
    return task_id, "ended", {"ended:TIMEOUT"}


def running_without_a_lease(rig: BrokerRig) -> tuple[str, str, set[str]]:
    task_id = rig.claimed()
    rig.client.zrem(P + "supervisors", "sup")
    rig.client.delete(P + "running:sup")
    return task_id, "held", {"lane:q:NORMAL"}


def running_under_the_lease_of_nobody(rig: BrokerRig) -> tuple[str, str, set[str]]:
    task_id = rig.claimed()
    rig.client.zrem(P + "supervisors", "sup")
    return task_id, "held", {"lane:q:NORMAL"}


def running_and_not_held(rig: BrokerRig) -> tuple[str, str, set[str]]:
    task_id = rig.claimed()
    rig.client.delete(P + "running:sup")
    return task_id, "held", {"running:sup"}


def held_and_not_running(rig: BrokerRig) -> tuple[str, str, set[str]]:
    rig.claimed()
    task_id = rig.submit()
    rig.client.sadd(P + "running:sup", task_id)
    return task_id, "set", {"lane:q:NORMAL"}


def held_without_a_task(rig: BrokerRig) -> tuple[str, str, set[str]]:
    rig.claimed()
    rig.client.sadd(P + "running:sup", NOBODY)
    return NOBODY, "set", set()


def queued_without_a_task(rig: BrokerRig) -> tuple[str, str, set[str]]:
    rig.submit()
    rig.client.zadd(NORMAL, {NOBODY: 1})
    return NOBODY, "zset", set()


def queued_twice(rig: BrokerRig) -> tuple[str, str, set[str]]:
    task_id = rig.submit()
    rig.client.zadd(P + "lane:q:HIGH", {task_id: 1})
    rig.client.zadd(P + "round_robin:HIGH", {"q": 1})
    return task_id, "zset", {"lane:q:NORMAL"}


def due_after_its_end(rig: BrokerRig) -> tuple[str, str, set[str]]:
    task_id = rig.ended()
    rig.client.zadd(P + "due", {task_id: 1})
    return task_id, "zset", {"ended:FAILED"}


def ended_otherwise(rig: BrokerRig) -> tuple[str, str, set[str]]:
    task_id = rig.ended(TaskStatus.COMPLETED)
    rig.client.zadd(P + "ended:FAILED", {task_id: 1})
    return task_id, "zset", {"ended:COMPLETED"}


def a_life_without_a_task(rig: BrokerRig) -> tuple[str, str, set[str]]:
    task_id = rig.submit()
    rig.client.hset(P + "states", NOBODY, "QUEUED 0 0 0 1 1 1 -")
    return task_id, "life", {"lane:q:NORMAL"}


FAULTS = [lost_from_its_line, lost_from_its_line_with_a_life, lost_from_due, never_to_be_removed,
          retried_before_the_clock_was_set_back,
          running_without_a_lease, running_under_the_lease_of_nobody,
          running_and_not_held, held_and_not_running, held_without_a_task,
          queued_without_a_task, queued_twice, due_after_its_end, ended_otherwise, a_life_without_a_task]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_repair_task(rig: BrokerRig, fault: Callable[[BrokerRig], tuple[str, str, set[str]]]) -> None:
    for _ in (rig.submit("other"), rig.pending(queue="other"), rig.claimed("other", supervisor="sound"),
              rig.ended(queue="other")):
        pass
    task_id, what, home = fault(rig)

    mended = reconcile_all(rig)

    mended.pop("flows", None)
    assert mended == {what: 1}
    assert place_of(rig, task_id) == home
    assert int(rig.dump()[P + "counters"][b"mended"]) == 1
    assert not reconcile_all(rig)
    assert rig.client.hget(P + "states", NOBODY) is None


def test_a_released_run_is_queued_at_its_place(rig: BrokerRig) -> None:
    rig.submit()
    task_id, _, _ = running_without_a_lease(rig)
    reconcile_all(rig)
    state = rig.state(task_id)
    assert (state.status, state.run, state.rank, state.owner) == (TaskStatus.QUEUED, 1, 2, "-")


def test_flows_with_nothing_waiting_are_forgotten(rig: BrokerRig) -> None:
    for key in ("a", "b"):
        rig.claimed(fair_key=key)
    rig.submit(fair_key="c")
    rig.submit(fair_key="c")
    assert reconcile_all(rig) == {"flows": 2}
    assert rig.dump()[P + "cursors:q:NORMAL"] == {b"v": b"2", b"k:c": b"4"}


def test_it_goes_through_everything_in_bounded_steps(rig: BrokerRig) -> None:
    rig.broker.submit([rig.new() for _ in range(1500)])
    rig.client.zrem(NORMAL, *rig.client.zrange(NORMAL, 0, 9))
    cursor, steps, checked, mended = None, 0, 0, 0
    while True:
        seen = rig.keeper.audit(cursor)
        steps, checked, mended = steps + 1, checked + seen.checked, mended + seen.repaired["line"]
        assert seen.checked < 600
        cursor = seen.cursor
        if cursor is None:
            break
    assert mended == 10
    assert checked >= 2 * 1500
    assert rig.client.zcard(NORMAL) == 1500


def test_a_task_that_has_moved_on_since_it_was_looked_at_is_left_alone(rig: BrokerRig) -> None:
    task_id, _, _ = running_without_a_lease(rig)
    suspect = rig.keeper._audit._suspect(P + "tasks", "task", task_id, rig.broker.read([task_id])[0])
    assert suspect is not None
    rig.settle(task_id, TaskStatus.COMPLETED)
    assert not rig.unchanged(lambda: rig.keeper._audit._repair([suspect]))
    rig.set_life(task_id, TaskStatus.RUNNING, "another", run=2)
    assert not rig.unchanged(lambda: rig.keeper._audit._repair([suspect]))


@pytest.mark.parametrize("options", [{"max_deliveries": 1}, {}])
def test_a_run_that_must_not_be_started_again_fails_when_its_supervisor_is_gone(rig: BrokerRig, options: dict) -> None:
    if not options:
        rig.client.hset(P + "handlers", "t", b'{"name":"t","max_deliveries":1}')
    lost, held = rig.claimed(**options), rig.claimed(supervisor="alive", **options)
    rig.client.zrem(P + "supervisors", "sup")
    rig.client.delete(P + "running:sup", P + "running:alive")
    mended = reconcile_all(rig)
    assert mended["spent"] == 2
    stored = rig.broker.read([lost])[0]
    assert (stored.state.status, stored.outcome["cause"]) == (TaskStatus.FAILED, "lease_lost")
    assert (place_of(rig, lost), place_of(rig, held)) == ({"ended:FAILED"}, {"running:alive"})
    assert not reconcile_all(rig)


def test_when_all_states_are_lost_nothing_is_run_again_that_was_over_or_is_not_due(rig: BrokerRig) -> None:
    """What other keys say of a task is believed, and its stored state written anew."""
    ended = {status: rig.ended(status) for status in (TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.TIMEOUT)}
    pending, retrying, running, queued = rig.pending(), rig.retrying(), rig.claimed(), rig.submit()
    rig.client.delete(rig.keys.states)
    assert reconcile_all(rig)["state"] == 6
    for status, task_id in ended.items():
        assert (rig.state(task_id).status, rig.state(task_id).run) == (status, 1)
        assert rig.client.zscore(rig.keys.ended(status), task_id) is not None
    assert (rig.state(pending).status, rig.state(pending).run) == (TaskStatus.PENDING, 0)
    assert (rig.state(retrying).status, rig.state(retrying).run) == (TaskStatus.RETRYING, 1)
    state = rig.state(running)
    assert (state.status, state.run, state.owner) == (TaskStatus.RUNNING, 1, "sup")
    assert rig.state(queued).status is TaskStatus.QUEUED
    assert rig.client.zrange(rig.keys.base + "lane:q:NORMAL", 0, -1) == [queued.encode()]
    assert not rig.unchanged(lambda: reconcile_all(rig))


def test_queues_that_were_deleted_come_back_with_their_tasks(rig: BrokerRig) -> None:
    task_id = rig.submit()
    rig.client.delete(rig.keys.queues, rig.keys.base + "round_robin:NORMAL")
    assert reconcile_all(rig)["line"] == 1
    assert [stats["queue"] for stats in rig.broker.queue_stats()] == ["q"]
    assert Supervisor(rig).claim(1) == [task_id]


def test_a_line_of_a_queue_whose_pause_was_deleted_has_its_turn_again(rig: BrokerRig) -> None:
    task_id, supervisor = rig.submit(), Supervisor(rig)
    rig.broker.pause("q")
    assert supervisor.claim(1) == []
    rig.client.delete(rig.keys.queues)
    assert supervisor.claim(1) == []
    reconcile_all(rig)
    assert supervisor.claim(1) == [task_id]
