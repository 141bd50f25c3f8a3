"""Every refusal of every verb leaves the database as it was, to the last bit."""

from collections.abc import Callable
from itertools import count
from typing import Any

import pytest

from engine.adapters.redis.records.leader_lock import RedisLeaderLock
from engine.adapters.redis.tasks.amend import amend
from engine.adapters.redis.tasks.restoring import restore
from engine.adapters.redis.wire import scripts
from engine.core.task.lifecycle import Move, TaskStatus
from engine.core.task.priority import TaskPriority
from engine.errors import BrokerError, MoveRefused, TaskNotFound
from tests.scripts.shop import HOUR_MS, Shop

NOBODY = "0" * 19
STALE = b"QUEUED 9 0 0 1 0 0 -"


def submit_an_id_again(shop: Shop) -> None:
    task = shop.new()
    shop.broker.submit([task])
    other = task._replace(record=shop.new("other").record)
    with pytest.raises(BrokerError, match="another task has one of the ids"):
        shop.unchanged(lambda: shop.broker.submit([shop.new(), other]))


def submit_the_same_again(shop: Shop) -> None:
    tasks = [shop.new(), shop.new("x")]
    shop.broker.submit(tasks)
    assert shop.unchanged(lambda: shop.broker.submit(tasks)) == [task.id for task in tasks]


def submit_half_of_it_again(shop: Shop) -> None:
    tasks = [shop.new(), shop.new()]
    shop.broker.submit(tasks[:1])
    with pytest.raises(BrokerError):
        shop.unchanged(lambda: shop.broker.submit(tasks))


def submit_detailed_an_id_again(shop: Shop) -> None:
    task = shop.new(fair_key="a")
    shop.broker.submit([task])
    other = task._replace(record=shop.new(fair_key="b").record)
    with pytest.raises(BrokerError, match="another task has one of the ids"):
        shop.unchanged(lambda: shop.broker.submit([shop.new(fair_key="c"), other]))


def submit_detailed_the_same_again(shop: Shop) -> None:
    tasks = [shop.new(fair_key="a"), shop.new(key="k"), shop.new(due_ms=shop.now_ms + HOUR_MS)]
    shop.broker.submit(tasks)
    assert shop.unchanged(lambda: shop.broker.submit(tasks)) == [task.id for task in tasks]


def submit_with_a_known_key(shop: Shop) -> None:
    first = shop.submit(key="k")
    assert shop.unchanged(lambda: shop.submit(key="k")) == first


def cancel_what_there_is_not(shop: Shop) -> None:
    with pytest.raises(TaskNotFound):
        shop.unchanged(lambda: shop.broker.cancel(NOBODY, "why"))


def cancel_what_has_ended(shop: Shop) -> None:
    for status in (TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED, TaskStatus.TIMEOUT):
        task_id = shop.ended(status)
        with pytest.raises(MoveRefused, match=f"cannot cancel .* it is {status}"):
            shop.unchanged(lambda task_id=task_id: shop.broker.cancel(task_id, "why"))


def cancel_queued_what_moved_on(shop: Shop) -> None:
    queued = shop.submit()
    found = shop.broker.read([queued, shop.submit(), shop.pending()])
    for stored in found:
        shop.broker.cancel(stored.id, "quicker")
    actions = shop.broker._actions
    assert shop.unchanged(lambda: actions.cancel_queued(found, Move.CANCEL)) == [b"MOVED_ON"] * 3
    shop.broker.delete([stored.id for stored in found])
    assert shop.unchanged(lambda: actions.cancel_queued(found, Move.CANCEL)) == [b"MOVED_ON"] * 3


def cancel_queued_what_runs(shop: Shop) -> None:
    found = shop.broker.read([shop.claimed(), shop.ended()])
    assert shop.unchanged(lambda: shop.broker._actions.cancel_queued(found, Move.EXPIRE)) == [b"ILLEGAL"] * 2


def send_command_about_a_run_that_is_over(shop: Shop) -> None:
    stored = shop.broker.read([shop.claimed()])[0]
    shop.settle(stored.id, TaskStatus.COMPLETED)
    assert shop.unchanged(lambda: shop.broker._actions._send("sup", {"do": "cancel"}, stored)) == b"MOVED_ON"


def send_command_to_nobody(shop: Shop) -> None:
    assert shop.unchanged(lambda: shop.broker.send_command("nobody", {"do": "level"})) is False


def set_priority_of_what_runs_or_has_ended(shop: Shop) -> None:
    for task_id in (shop.claimed(), shop.ended(), shop.ended(TaskStatus.COMPLETED)):
        with pytest.raises(MoveRefused):
            shop.unchanged(lambda task_id=task_id: shop.broker.set_priority(task_id, TaskPriority.URGENT))


def set_priority_to_the_same(shop: Shop) -> None:
    task_id = shop.submit()
    shop.unchanged(lambda: shop.broker.set_priority(task_id, TaskPriority.NORMAL))


def amend_what_runs_or_has_ended(shop: Shop) -> None:
    for task_id in (shop.claimed(), shop.ended(), shop.ended(TaskStatus.COMPLETED)):
        with pytest.raises(MoveRefused):
            shop.unchanged(lambda task_id=task_id: amend(
                shop.broker.redis, shop.keys, task_id, {"name": "x"}, None, kept_ms=HOUR_MS))


def amend_what_moved_on(shop: Shop) -> None:
    task_id, keys = shop.submit(), shop.keys
    names = {prefix + name: key(queue="q", priority=priority) for prefix, priority in (("", 1), ("new_", 3))
             for name, key in (("lane", keys.lane), ("cursors", keys.cursors))
             for priority in [TaskPriority(priority)]}
    record = shop.client.hget(keys.tasks, task_id)
    fresh = b"QUEUED 0 0 0 1 0 0 -"
    for id, state, is_stored, seen in ((task_id, STALE, 1, record), (task_id, fresh, 1, record),
                                       (task_id, fresh, 0, b"another"), (NOBODY, STALE, 0, record)):
        assert shop.unchanged(lambda id=id, state=state, is_stored=is_stored, seen=seen: shop.call(
            "amend", id=id, state=state, is_stored=is_stored, record=seen, new_record=b"new", new_priority=3,
            fair_key="", queue="q", **names)) == b"MOVED_ON"


def requeue_what_has_not_ended(shop: Shop) -> None:
    for task_id in (shop.submit(), shop.pending(), shop.claimed(), shop.ended(TaskStatus.COMPLETED)):
        with pytest.raises(MoveRefused):
            shop.unchanged(lambda task_id=task_id: shop.broker.requeue(task_id))
        assert shop.unchanged(lambda task_id=task_id: shop.broker.requeue_many([task_id])) == 0


def requeue_what_moved_on(shop: Shop) -> None:
    found = shop.broker.read([shop.ended()])
    shop.broker.requeue(found[0].id)
    assert shop.unchanged(lambda: shop.broker._actions._requeue(found)) == [b"MOVED_ON"]


def promote_what_is_not_due(shop: Shop) -> None:
    found = shop.broker.read([shop.pending(), shop.retrying()])
    assert shop.unchanged(lambda: shop.keeper._promote(found)) == [b"MOVED_ON"] * 2
    assert shop.unchanged(lambda: shop.keeper.promote(10))[0] == 0


def promote_what_moved_on(shop: Shop) -> None:
    found = shop.broker.read([shop.retrying(-1)])
    shop.broker.cancel(found[0].id, "quicker")
    assert shop.unchanged(lambda: shop.keeper._promote(found)) == [b"MOVED_ON"]


def promote_what_ended(shop: Shop) -> None:
    task_id = shop.ended()
    shop.client.zadd(shop.keys.due, {task_id: 1})
    assert shop.unchanged(lambda: shop.keeper._promote(shop.broker.read([task_id]))) == [b"ILLEGAL"]


def remove_what_has_not_ended(shop: Shop) -> None:
    ids = [NOBODY, shop.submit(), shop.pending(), shop.claimed()]
    words = shop.unchanged(lambda: shop.broker._actions.remove(ids))
    assert words == [b"GONE", b"ILLEGAL", b"ILLEGAL", b"ILLEGAL"]


def sweep_too_early(shop: Shop) -> None:
    assert shop.unchanged(lambda: shop.keeper.sweep(10)) == (0, None)
    task_id = shop.ended(kept_ms=HOUR_MS)
    removed_ms = int(shop.client.zscore(shop.keys.ended("FAILED"), task_id))
    assert shop.unchanged(lambda: shop.keeper.sweep(10)) == (0, removed_ms)


def lead_beside_another(shop: Shop) -> None:
    assert shop.keeper.poll("one", shop.now_ms + HOUR_MS).leads
    assert not shop.unchanged(lambda: shop.keeper.poll("two", shop.now_ms + HOUR_MS)).leads
    assert not shop.unchanged(lambda: shop.keeper.poll("two", 0)).leads


def lead_at_what_another_does(shop: Shop) -> None:
    assert RedisLeaderLock(shop.broker.redis, "lock", "one").take(60.0)
    other = RedisLeaderLock(shop.broker.redis, "lock", "two")
    assert not shop.unchanged(lambda: other.take(60.0))
    shop.unchanged(other.give_up)


def add_deliveries_without_the_lead(shop: Shop) -> None:
    assert not shop.unchanged(lambda: shop.broker.webhooks.advance("one", "1-1", {"m": {}}, 5))


def rescue_from_the_living(shop: Shop) -> None:
    shop.claimed(lease_ms=HOUR_MS)
    assert shop.unchanged(lambda: shop.keeper.rescue("sup", 10)).released == 0


def unregister_with_runs(shop: Shop) -> None:
    shop.claimed()
    assert shop.unchanged(lambda: shop.call("unregister", supervisor="sup")) == b"HOLDS"


def watch_what_is_over(shop: Shop) -> None:
    ids = [shop.ended(), NOBODY]
    over = shop.unchanged(lambda: shop.call("watch", *ids, client="me"))
    assert [task_id.decode() for task_id in over] == ids


def get_all_tasks(shop: Shop) -> None:
    ids = [NOBODY, shop.submit(), shop.pending(), shop.claimed(), shop.ended()]
    assert [stored is None for stored in shop.unchanged(lambda: shop.broker.read(ids))] == [True] + [False] * 4


def set_queue_state_to_what_it_is(shop: Shop) -> None:
    shop.submit()
    shop.unchanged(lambda: shop.broker.resume("q"))


def rename_what_is_sound(shop: Shop) -> None:
    shop.submit(), shop.pending(), shop.claimed(), shop.ended()
    assert shop.unchanged(shop.keeper.rename_misplaced) == 0


def restore_what_is_sound(shop: Shop) -> None:
    ids = [shop.submit(), shop.pending(), shop.claimed(), shop.ended(), NOBODY]
    broken = shop.submit()
    shop.client.hset(shop.keys.tasks, broken, b"7")
    assert not shop.unchanged(lambda: restore(shop.broker.redis, shop.keys, [*ids, broken], HOUR_MS))


def repair_what_is_sound(shop: Shop) -> None:
    for _ in (shop.submit(), shop.pending(), shop.claimed(), shop.ended(), shop.retrying()):
        pass
    assert set(reconcile_all(shop)) <= {"flows"}
    seen = shop.unchanged(lambda: reconcile_all(shop))
    assert not seen


def trim_what_is_ahead(shop: Shop) -> None:
    shop.submit(fair_key="a")
    flows = shop.keys.cursors("q", TaskPriority.NORMAL)
    assert shop.unchanged(lambda: shop.call("trim_cursors", "k:a", "k:b", cursors=flows)) == 0


def sync_held_runs_too_late(shop: Shop) -> None:
    """From a connection that was given up: what was claimed since is not its business."""
    sync_held_runs(shop, [], nth=7)
    shop.claimed()
    for nth in (1, 6, 7):
        assert shop.unchanged(lambda nth=nth: sync_held_runs(shop, [], nth=nth)) == []


def expire_lease_that_was_renewed_or_is_gone(shop: Shop) -> None:
    shop.claimed()
    seen_ms = shop.keeper.leases()["sup"]
    assert not shop.unchanged(lambda: shop.keeper.expire_lease("sup", seen_ms - 1))
    assert not shop.unchanged(lambda: shop.keeper.expire_lease("nobody"))


CASES: dict[str, list[Callable[[Shop], None]]] = {
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
ELSEWHERE = {"step", "drop_cancel_requests"}  # test_step.py, test_insist.py
REFUSING_NOTHING = {"increment", "publish", "get_lane_waits", "register", "maintain_lanes", "maintain_queues"}


@pytest.mark.parametrize("case", [case for cases in CASES.values() for case in cases], ids=lambda case: case.__name__)
def test_a_refusal_changes_nothing(shop: Shop, case: Callable[[Shop], None]) -> None:
    case(shop)


def test_every_verb_is_here() -> None:
    assert set(scripts.verbs()) == set(CASES) | ELSEWHERE | REFUSING_NOTHING


_nth = count(1)


def sync_held_runs(shop: Shop, known: list[tuple[str, int]], supervisor: str = "sup", nth: int | None = None) -> Any:
    """As a supervisor calls it: each with a higher number than the one before, unless one is given."""
    return shop.call("sync_held_runs", *(part for run in known for part in run), supervisor=supervisor,
                     number=nth or next(_nth))


def reconcile_all(shop: Shop) -> dict[str, int]:
    mended: dict[str, int] = {}
    cursor = None
    while True:
        seen = shop.keeper.audit(cursor)
        for what, times in seen.repaired.items():
            mended[what] = mended.get(what, 0) + times
        cursor = seen.cursor
        if cursor is None:
            return mended
