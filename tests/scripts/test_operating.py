"""cancel, requeue, set_priority, pause, purge, delete, order: what is in Redis afterwards, key by key."""

import orjson
import pytest

from engine.core.task.lifecycle import TaskStatus
from engine.core.task.priority import TaskPriority
from tests.scripts.shop import HOUR_MS, Shop, messages
from tests.scripts.test_step import Supervisor
from tests.scripts.test_submit import told

P = "ganger:{0}:"
KEPT_MS = 604_800_000


def changes(shop: Shop, before: dict) -> dict:
    """The keys that are not as they were, None where one is gone; without the events."""
    after = shop.dump()
    assert after.pop(P + "events", None) is not None or P + "events" not in before
    before.pop(P + "events", None)
    return {key: after.get(key) for key in {*before, *after} if before.get(key) != after.get(key)}


def stands(line: bytes) -> str:
    """A stored state without its time."""
    status, run, attempts, crashes, priority, rank, _, owner = line.decode().split(" ")
    return f"{status} {run} {attempts} {crashes} {priority} {rank} {owner}"


def test_cancel_a_queued_task(shop: Shop) -> None:
    gone, kept = shop.submit(fair_key="a"), shop.submit(fair_key="a")
    before, now_ms = shop.dump(), shop.now_ms

    assert shop.broker.cancel(gone, "not wanted") is TaskStatus.CANCELLED

    changed = changes(shop, before)
    assert stands(changed.pop(P + "states")[gone.encode()]) == "CANCELLED 0 0 0 1 0 -"
    outcome = orjson.loads(changed.pop(P + "outcomes")[f"{gone}:0".encode()])
    assert (outcome["cause"], outcome["error"]["message"], outcome["run"]) == ("cancelled", "not wanted", 0)
    [(member, removed_ms)] = changed.pop(P + "ended:CANCELLED")
    assert member == gone.encode()
    assert 0 <= removed_ms - now_ms - KEPT_MS < 60_000
    assert changed == {P + "lane:q:NORMAL": [(kept.encode(), 2.0)], P + "cursors:q:NORMAL": {b"k:a": b"1"},
                       P + "counters": {b"submitted": b"2", b"CANCELLED": b"1"}}
    assert told(shop)[-1] == (gone, "CANCELLED", 0)


def test_cancel_what_is_due_later(shop: Shop) -> None:
    pending, retrying = shop.pending(expires_ms=shop.now_ms + 2 * HOUR_MS), shop.retrying()
    shop.client.hset(P + "progress", retrying, "{}")
    before = shop.dump()

    assert {shop.broker.cancel(task_id, "why") for task_id in (pending, retrying)} == {TaskStatus.CANCELLED}

    changed = changes(shop, before)
    assert stands(changed[P + "states"][pending.encode()]) == "CANCELLED 0 0 0 1 0 -"
    assert stands(changed[P + "states"][retrying.encode()]) == "CANCELLED 2 1 0 1 1 -"
    assert set(changed[P + "outcomes"]) == {f"{pending}:0".encode(), f"{retrying}:1".encode(), f"{retrying}:2".encode()}
    assert {key for key, value in changed.items() if value is None} == {P + "due", P + "expiring", P + "progress"}
    assert P + "lane:q:NORMAL" not in changed
    assert [outcome["run"] for outcome in shop.broker.outcomes(retrying)] == [1, 2]


def test_cancel_a_running_task_tells_its_supervisor(shop: Shop) -> None:
    task_id = shop.claimed()
    heard = shop.hearing(P + "wakeup:sup")
    before = shop.dump()

    assert shop.broker.cancel(task_id, "not wanted") is TaskStatus.RUNNING

    changed = changes(shop, before)
    assert changed.pop(P + "cancel_requests") == {task_id.encode(): b"1 not wanted"}
    letters = changed.pop(P + "commands:sup")
    assert not changed
    [letter] = map(orjson.loads, letters)
    assert len(letter.pop("letter")) == 12
    assert letter == {"do": "cancel", "id": task_id, "run": 1, "reason": "not wanted"}
    assert messages(heard, 1) == [b"!"]


def test_no_letter_is_like_another(shop: Shop) -> None:
    shop.claimed()
    for _ in range(2):
        shop.broker.send_command("sup", {"do": "stack", "slot": 0})
    assert len(set(shop.client.lrange(P + "commands:sup", 0, -1))) == 2


def test_a_mailbox_is_bounded(shop: Shop) -> None:
    shop.claimed()
    for n in range(1005):
        shop.broker.send_command("sup", {"n": n})
    letters = shop.client.lrange(P + "commands:sup", 0, -1)
    assert [orjson.loads(letter)["n"] for letter in letters] == list(range(5, 1005))


def test_cancel_tells_those_who_wait(shop: Shop) -> None:
    one, two = shop.submit(), shop.pending()
    heard = shop.hearing(P + "done:a", P + "done:b")
    shop.client.hset(P + "waiters", mapping={one: ",a,b", two: ",b"})
    shop.broker.cancel(one, "why")
    assert messages(heard, 2) == [one.encode()] * 2
    assert shop.dump()[P + "waiters"] == {two.encode(): b",b"}


@pytest.mark.parametrize("status", [TaskStatus.FAILED, TaskStatus.TIMEOUT])
def test_requeue(shop: Shop, status: TaskStatus) -> None:
    shop.submit()
    task_id = shop.ended(status)
    shop.client.hset(P + "rescues", task_id, 3)
    before = shop.dump()

    shop.broker.requeue(task_id)

    changed = changes(shop, before)
    assert stands(changed.pop(P + "states")[task_id.encode()]) == "QUEUED 1 0 0 1 3 -"
    assert changed.pop(P + "lane:q:NORMAL")[-1] == (task_id.encode(), 3.0)
    assert changed.pop(P + "counters")[b"revived"] == b"1"
    assert changed == {f"{P}ended:{status}": None, P + "rescues": None,
                       P + "cursors:q:NORMAL": {b"k:": b"3", b"v": b"2"}}
    assert told(shop)[-1] == (task_id, "QUEUED", 1)


def test_requeue_many_passes_over_what_cannot_be(shop: Shop) -> None:
    ids = [shop.ended(), shop.submit(), shop.ended(queue="x"), "0" * 19, shop.ended(TaskStatus.COMPLETED)]
    shop.client.hset(P + "idle_supervisors", "sup", "*")
    assert shop.broker.requeue_many(ids) == 2
    assert [shop.state(ids[n]).status for n in (0, 1, 2, 4)] == ["QUEUED", "QUEUED", "QUEUED", "COMPLETED"]


def test_a_task_that_was_cancelled_twice_has_two_ends(shop: Shop) -> None:
    task_id = shop.submit()
    for _ in range(2):
        shop.broker.cancel(task_id, "again")
        shop.broker.requeue(task_id)
    assert [outcome["run"] for outcome in shop.broker.outcomes(task_id)] == [0, 1]


def test_set_priority_of_a_queued_task(shop: Shop) -> None:
    task_id, other = shop.submit(), shop.submit(priority=TaskPriority.URGENT)
    before = shop.dump()

    shop.broker.set_priority(task_id, TaskPriority.URGENT)

    changed = changes(shop, before)
    assert stands(changed.pop(P + "states")[task_id.encode()]) == "QUEUED 0 0 0 3 2 -"
    assert changed == {P + "lane:q:NORMAL": None, P + "cursors:q:NORMAL": {b"k:": b"0"},
                       P + "lane:q:URGENT": [(other.encode(), 1.0), (task_id.encode(), 2.0)],
                       P + "cursors:q:URGENT": {b"k:": b"2"}}
    assert shop.broker.cancel(task_id, "why") is TaskStatus.CANCELLED


def test_set_priority_of_what_is_due_later(shop: Shop) -> None:
    for task_id in (shop.pending(), shop.retrying()):
        before = shop.dump()
        shop.broker.set_priority(task_id, TaskPriority.LOW)
        assert set(changes(shop, before)) == {P + "states"}
        assert (shop.state(task_id).priority, shop.state(task_id).rank) == (TaskPriority.LOW, 0)


def test_pause_and_resume(shop: Shop) -> None:
    shop.broker.pause("q")
    assert shop.dump() == {P + "queues": {b"q": b"paused"}}
    ids = [shop.submit() for _ in range(2)]
    heard = shop.hearing(P + "wakeup:a", P + "wakeup:b", P + "wakeup:c")
    shop.client.hset(P + "idle_supervisors", mapping={"a": "*", "b": "*", "c": "*"})
    shop.broker.resume("q")
    assert messages(heard, 2) == [b"q"] * 2
    assert heard.get_message(timeout=0) is None
    assert shop.dump()[P + "queues"] == {b"q": b"open"}
    assert len(ids) == 2


def test_a_queue_that_was_emptied_while_it_was_paused_is_served_again(shop: Shop) -> None:
    supervisor, task_id = Supervisor(shop), shop.submit()
    shop.broker.pause("q")
    assert supervisor.claim(1) == []
    shop.broker.cancel(task_id, "why")
    shop.broker.resume("q")
    task_id = shop.submit()
    assert supervisor.claim(1) == [task_id]


def test_purge_cancels_what_is_queued_and_nothing_else(shop: Shop) -> None:
    others = [shop.claimed(), shop.pending(), shop.submit("x"), shop.ended()]
    before = [shop.state(task_id) for task_id in others]
    ids = [shop.submit(priority=priority) for priority in TaskPriority for _ in range(70)]
    assert shop.broker.purge("q", 100) == 100
    assert shop.broker.purge("q", 1000) == 180
    assert shop.broker.purge("q", 1000) == 0
    assert {shop.state(task_id).status for task_id in ids} == {TaskStatus.CANCELLED}
    assert [shop.state(task_id) for task_id in others] == before


def test_delete_leaves_nothing(shop: Shop) -> None:
    kept = shop.submit()
    before = shop.dump()
    task_id = shop.ended()
    shop.client.rpush(P + "log:" + task_id, "{}")
    shop.client.hset(P + "progress", task_id, "{}")
    shop.client.hset(P + "rescues", task_id, 1)
    shop.client.hset(P + "waiters", task_id, ",a")
    shop.broker.requeue(task_id)
    shop.broker.cancel(task_id, "why")

    assert shop.broker.delete([task_id, kept, "0" * 19]) == 1

    changed = changes(shop, before)
    for key in ("counters", "cursors:q:NORMAL", "supervisors"):
        changed.pop(P + key)
    assert changed == {}
