"""Every refusal of every verb leaves the database as it was, to the last bit."""

from collections.abc import Callable
from itertools import count
from typing import Any

import pytest

from engine.adapters.redis.records.leader_lock import RedisLeaderLock
from engine.adapters.redis.tasks.amend import amend
from engine.adapters.redis.tasks.restore_states import restore
from engine.adapters.redis.wire import scripts
from engine.core.task.lifecycle import Move, TaskStatus
from engine.core.task.priority import TaskPriority
from engine.errors import BrokerError, MoveRefused, TaskNotFound
from tests.scripts.broker_rig import HOUR_MS, BrokerRig

NOBODY = "0" * 19
STALE = b"QUEUED 9 0 0 1 0 0 -"


def submit_an_id_again(rig: BrokerRig) -> None:
    task = rig.new()
    rig.broker.submit([task])
    other = task._replace(record=rig.new("other").record)
    with pytest.raises(BrokerError, match="another task has one of the ids"):
        rig.unchanged(lambda: rig.broker.submit([rig.new(), other]))


def submit_the_same_again(rig: BrokerRig) -> None:
    tasks = [rig.new(), rig.new("x")]
    rig.broker.submit(tasks)
    assert rig.unchanged(lambda: rig.broker.submit(tasks)) == [task.id for task in tasks]


def submit_half_of_it_again(rig: BrokerRig) -> None:
    tasks = [rig.new(), rig.new()]
    rig.broker.submit(tasks[:1])
    with pytest.raises(BrokerError):
        rig.unchanged(lambda: rig.broker.submit(tasks))


def submit_detailed_an_id_again(rig: BrokerRig) -> None:
    task = rig.new(fair_key="a")
    rig.broker.submit([task])
    other = task._replace(record=rig.new(fair_key="b").record)
    with pytest.raises(BrokerError, match="another task has one of the ids"):
        rig.unchanged(lambda: rig.broker.submit([rig.new(fair_key="c"), other]))


def submit_detailed_the_same_again(rig: BrokerRig) -> None:
    tasks = [rig.new(fair_key="a"), rig.new(key="k"), rig.new(due_ms=rig.now_ms + HOUR_MS)]
    rig.broker.submit(tasks)
    assert rig.unchanged(lambda: rig.broker.submit(tasks)) == [task.id for task in tasks]


def submit_with_a_known_key(rig: BrokerRig) -> None:
    first = rig.submit(key="k")
    assert rig.unchanged(lambda: rig.submit(key="k")) == first


def cancel_what_there_is_not(rig: BrokerRig) -> None:
    with pytest.raises(TaskNotFound):
        rig.unchanged(lambda: rig.broker.cancel(NOBODY, "why"))


def cancel_what_has_ended(rig: BrokerRig) -> None:
    for status in (TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED, TaskStatus.TIMEOUT):
        task_id = rig.ended(status)
        with pytest.raises(MoveRefused, match=f"cannot cancel .* it is {status}"):
            rig.unchanged(lambda task_id=task_id: rig.broker.cancel(task_id, "why"))


def cancel_queued_what_moved_on(rig: BrokerRig) -> None:
    queued = rig.submit()
    found = rig.broker.read([queued, rig.submit(), rig.pending()])
    for stored in found:
        rig.broker.cancel(stored.id, "quicker")
    actions = rig.broker._actions
    assert rig.unchanged(lambda: actions.cancel_queued(found, Move.CANCEL)) == [b"MOVED_ON"] * 3
    rig.broker.delete([stored.id for stored in found])
    assert rig.unchanged(lambda: actions.cancel_queued(found, Move.CANCEL)) == [b"MOVED_ON"] * 3


def cancel_queued_what_runs(rig: BrokerRig) -> None:
    found = rig.broker.read([rig.claimed(), rig.ended()])
    assert rig.unchanged(lambda: rig.broker._actions.cancel_queued(found, Move.EXPIRE)) == [b"ILLEGAL"] * 2


def send_command_about_a_run_that_is_over(rig: BrokerRig) -> None:
    stored = rig.broker.read([rig.claimed()])[0]
    rig.settle(stored.id, TaskStatus.COMPLETED)
    assert rig.unchanged(lambda: rig.broker._actions._send("sup", {"do": "cancel"}, stored)) == b"MOVED_ON"


def send_command_to_nobody(rig: BrokerRig) -> None:
    assert rig.unchanged(lambda: rig.broker.send_command("nobody", {"do": "level"})) is False


def set_priority_of_what_runs_or_has_ended(rig: BrokerRig) -> None:
    for task_id in (rig.claimed(), rig.ended(), rig.ended(TaskStatus.COMPLETED)):
        with pytest.raises(MoveRefused):
            rig.unchanged(lambda task_id=task_id: rig.broker.set_priority(task_id, TaskPriority.URGENT))


def set_priority_to_the_same(rig: BrokerRig) -> None:
    task_id = rig.submit()
    rig.unchanged(lambda: rig.broker.set_priority(task_id, TaskPriority.NORMAL))


def amend_what_runs_or_has_ended(rig: BrokerRig) -> None:
    for task_id in (rig.claimed(), rig.ended(), rig.ended(TaskStatus.COMPLETED)):
        with pytest.raises(MoveRefused):
            rig.unchanged(lambda task_id=task_id: amend(
                rig.broker.redis, rig.keys, task_id, {"name": "x"}, None, kept_ms=HOUR_MS))


def amend_what_moved_on(rig: BrokerRig) -> None:
    task_id, keys = rig.submit(), rig.keys
    names = {prefix + name: key(queue="q", priority=priority) for prefix, priority in (("", 1), ("new_", 3))
             for name, key in (("lane", keys.lane), ("cursors", keys.cursors))
             for priority in [TaskPriority(priority)]}
    record = rig.client.hget(keys.tasks, task_id)
    fresh = b"QUEUED 0 0 0 1 0 0 -"
    for id, state, is_stored, seen in ((task_id, STALE, 1, record), (task_id, fresh, 1, record),
                                       (task_id, fresh, 0, b"another"), (NOBODY, STALE, 0, record)):
        assert rig.unchanged(lambda id=id, state=state, is_stored=is_stored, seen=seen: rig.call(
            "amend", id=id, state=state, is_stored=is_stored, record=seen, new_record=b"new", new_priority=3,
            fair_key="", queue="q", **names)) == b"MOVED_ON"


def requeue_what_has_not_ended(rig: BrokerRig) -> None:
    for task_id in (rig.submit(), rig.pending(), rig.claimed(), rig.ended(TaskStatus.COMPLETED)):
        with pytest.raises(MoveRefused):
            rig.unchanged(lambda task_id=task_id: rig.broker.requeue(task_id))
        assert rig.unchanged(lambda task_id=task_id: rig.broker.requeue_many([task_id])) == 0


def requeue_what_moved_on(rig: BrokerRig) -> None:
    found = rig.broker.read([rig.ended()])
    rig.broker.requeue(found[0].id)
    assert rig.unchanged(lambda: rig.broker._actions._requeue(found)) == [b"MOVED_ON"]


def promote_what_is_not_due(rig: BrokerRig) -> None:
    found = rig.broker.read([rig.pending(), rig.retrying()])
    assert rig.unchanged(lambda: rig.keeper._promote(found)) == [b"MOVED_ON"] * 2
    assert rig.unchanged(lambda: rig.keeper.promote(10))[0] == 0


def promote_what_moved_on(rig: BrokerRig) -> None:
    found = rig.broker.read([rig.retrying(-1)])
    rig.broker.cancel(found[0].id, "quicker")
    assert rig.unchanged(lambda: rig.keeper._promote(found)) == [b"MOVED_ON"]


def promote_what_ended(rig: BrokerRig) -> None:
    task_id = rig.ended()
    rig.client.zadd(rig.keys.due, {task_id: 1})
    assert rig.unchanged(lambda: rig.keeper._promote(rig.broker.read([task_id]))) == [b"ILLEGAL"]


def remove_what_has_not_ended(rig: BrokerRig) -> None:
    ids = [NOBODY, rig.submit(), rig.pending(), rig.claimed()]
    words = rig.unchanged(lambda: rig.broker._actions.remove(ids))
    assert words == [b"GONE", b"ILLEGAL", b"ILLEGAL", b"ILLEGAL"]


def sweep_too_early(rig: BrokerRig) -> None:
    assert rig.unchanged(lambda: rig.keeper.sweep(10)) == (0, None)
    task_id = rig.ended(kept_ms=HOUR_MS)
    removed_ms = int(rig.client.zscore(rig.keys.ended("FAILED"), task_id))
    assert rig.unchanged(lambda: rig.keeper.sweep(10)) == (0, removed_ms)


def lead_beside_another(rig: BrokerRig) -> None:
    assert rig.keeper.poll("one", rig.now_ms + HOUR_MS).leads
    assert not rig.unchanged(lambda: rig.keeper.poll("two", rig.now_ms + HOUR_MS)).leads
    assert not rig.unchanged(lambda: rig.keeper.poll("two", 0)).leads


def lead_at_what_another_does(rig: BrokerRig) -> None:
    assert RedisLeaderLock(rig.broker.redis, "lock", "one").take(60.0)
    other = RedisLeaderLock(rig.broker.redis, "lock", "two")
    assert not rig.unchanged(lambda: other.take(60.0))
    rig.unchanged(other.give_up)


def add_deliveries_without_the_lead(rig: BrokerRig) -> None:
    assert not rig.unchanged(lambda: rig.broker.webhooks.advance("one", "1-1", {"m": {}}, 5))


def rescue_from_the_living(rig: BrokerRig) -> None:
    rig.claimed(lease_ms=HOUR_MS)
    assert rig.unchanged(lambda: rig.keeper.rescue("sup", 10)).released == 0


def unregister_with_runs(rig: BrokerRig) -> None:
    rig.claimed()
    assert rig.unchanged(lambda: rig.call("unregister", supervisor="sup")) == b"HOLDS"


def watch_what_is_over(rig: BrokerRig) -> None:
    ids = [rig.ended(), NOBODY]
    over = rig.unchanged(lambda: rig.call("watch", *ids, client="me"))
    assert [task_id.decode() for task_id in over] == ids


def get_all_tasks(rig: BrokerRig) -> None:
    ids = [NOBODY, rig.submit(), rig.pending(), rig.claimed(), rig.ended()]
    assert [stored is None for stored in rig.unchanged(lambda: rig.broker.read(ids))] == [True] + [False] * 4


def set_queue_state_to_what_it_is(rig: BrokerRig) -> None:
    rig.submit()
    rig.unchanged(lambda: rig.broker.resume("q"))


def rename_what_is_sound(rig: BrokerRig) -> None:
    rig.submit(), rig.pending(), rig.claimed(), rig.ended()
    assert rig.unchanged(rig.keeper.rename_misplaced) == 0


def restore_what_is_sound(rig: BrokerRig) -> None:
    ids = [rig.submit(), rig.pending(), rig.claimed(), rig.ended(), NOBODY]
    broken = rig.submit()
    rig.client.hset(rig.keys.tasks, broken, b"7")
    assert not rig.unchanged(lambda: restore(rig.broker.redis, rig.keys, [*ids, broken], HOUR_MS))


def repair_what_is_sound(rig: BrokerRig) -> None:
    for _ in (rig.submit(), rig.pending(), rig.claimed(), rig.ended(), rig.retrying()):
        pass
    assert set(reconcile_all(rig)) <= {"flows"}
    seen = rig.unchanged(lambda: reconcile_all(rig))
    assert not seen


def trim_what_is_ahead(rig: BrokerRig) -> None:
    rig.submit(fair_key="a")
    flows = rig.keys.cursors("q", TaskPriority.NORMAL)
    assert rig.unchanged(lambda: rig.call("trim_cursors", "k:a", "k:b", cursors=flows)) == 0


def sync_held_runs_too_late(rig: BrokerRig) -> None:
    """From a connection that was given up: what was claimed since is not its business."""
    sync_held_runs(rig, [], nth=7)
    rig.claimed()
    for nth in (1, 6, 7):
        assert rig.unchanged(lambda nth=nth: sync_held_runs(rig, [], nth=nth)) == []


def expire_lease_that_was_renewed_or_is_gone(rig: BrokerRig) -> None:
    rig.claimed()
    seen_ms = rig.keeper.leases()["sup"]
    assert not rig.unchanged(lambda: rig.keeper.expire_lease("sup", seen_ms - 1))
    assert not rig.unchanged(lambda: rig.keeper.expire_lease("nobody"))


CASES: dict[str, list[Callable[[BrokerRig], None]]] = {
    "submit": [submit_an_id_again, submit_the_same_again, submit_half_of_it_again],
    "submit_detailed": [submit_detailed_an_id_again, submit_detailed_the_same_again, submit_with_a_known_key],
    "cancel_queued": [cancel_what_there_is_not, cancel_what_has_ended, cancel_queued_what_moved_on,
                      cancel_queued_what_runs],
    "send_command": [send_command_about_a_run_that_is_over, send_command_to_nobody],
    "amend": [amend_what_runs_or_has_ended, amend_what_moved_on, set_priority_of_what_runs_or_has_ended,
              set_priority_to_the_same],
    "requeue": [requeue_what_has_not_ended, requeue_what_moved_on],
    "promote": [promote_what_is_not_due, promote_what_moved_on, promote_what_ended],
    "remove": [remove_what_has_not_ended],
    "sweep": [sweep_too_early],
    "poll": [lead_beside_another],
    "lead": [lead_at_what_another_does],
    "add_deliveries": [add_deliveries_without_the_lead],
    "expire_lease": [expire_lease_that_was_renewed_or_is_gone],
    "rescue": [rescue_from_the_living],
    "sync_held_runs": [sync_held_runs_too_late],
    "unregister": [unregister_with_runs],
    "watch": [watch_what_is_over],
    "get_tasks": [get_all_tasks],
    "set_queue_state": [set_queue_state_to_what_it_is],
    "repair": [repair_what_is_sound],
    "restore": [restore_what_is_sound],
    "rename_misplaced": [rename_what_is_sound],
    "trim_cursors": [trim_what_is_ahead],
}
ELSEWHERE = {"step", "drop_cancel_requests"}  # test_step.py, test_cancel_requests.py
REFUSING_NOTHING = {"increment", "publish", "get_lane_waits", "register", "maintain_lanes", "maintain_queues"}


@pytest.mark.parametrize("case", [case for cases in CASES.values() for case in cases], ids=lambda case: case.__name__)
def test_a_refusal_changes_nothing(rig: BrokerRig, case: Callable[[BrokerRig], None]) -> None:
    case(rig)


def test_every_verb_is_here() -> None:
    assert set(scripts.verbs()) == set(CASES) | ELSEWHERE | REFUSING_NOTHING


_nth = count(1)


def sync_held_runs(
        rig: BrokerRig, known: list[tuple[str, int]], supervisor: str = "sup", nth: int | None = None) -> Any:
    """As a supervisor calls it: each with a higher number than the one before, unless one is given."""
    return rig.call("sync_held_runs", *(part for run in known for part in run), supervisor=supervisor,
                     number=nth or next(_nth))


def reconcile_all(rig: BrokerRig) -> dict[str, int]:
    mended: dict[str, int] = {}
    cursor = None
    while True:
        seen = rig.keeper.audit(cursor)
        for what, times in seen.repaired.items():
            mended[what] = mended.get(what, 0) + times
        cursor = seen.cursor
        if cursor is None:
            return mended
