"""cancel, requeue, set_priority, pause, purge, delete, order: what is in Redis afterwards, key by key."""

import orjson
import pytest

from engine.core.task.lifecycle import TaskStatus
from engine.core.task.priority import TaskPriority
from tests.scripts.broker_rig import HOUR_MS, BrokerRig, messages
from tests.scripts.test_step import Supervisor
from tests.scripts.test_submit import told

P = "ganger:{0}:"
KEPT_MS = 604_800_000


def changes(rig: BrokerRig, before: dict) -> dict:
    """The keys that are not as they were, None where one is gone; without the events."""
    after = rig.dump()
    assert after.pop(P + "events", None) is not None or P + "events" not in before
    before.pop(P + "events", None)
    return {key: after.get(key) for key in {*before, *after} if before.get(key) != after.get(key)}


def stands(line: bytes) -> str:
    """A stored state without its time."""
    status, run, attempts, crashes, priority, rank, _, owner = line.decode().split(" ")
    return f"{status} {run} {attempts} {crashes} {priority} {rank} {owner}"


def test_cancel_a_queued_task(rig: BrokerRig) -> None:
    gone, kept = rig.submit(fair_key="a"), rig.submit(fair_key="a")
    before, now_ms = rig.dump(), rig.now_ms

    assert rig.broker.cancel(gone, "not wanted") is TaskStatus.CANCELLED

    changed = changes(rig, before)
    assert stands(changed.pop(P + "states")[gone.encode()]) == "CANCELLED 0 0 0 1 0 -"
    outcome = orjson.loads(changed.pop(P + "outcomes")[f"{gone}:0".encode()])
    assert (outcome["cause"], outcome["error"]["message"], outcome["run"]) == ("cancelled", "not wanted", 0)
    [(member, removed_ms)] = changed.pop(P + "ended:CANCELLED")
    assert member == gone.encode()
    assert 0 <= removed_ms - now_ms - KEPT_MS < 60_000
    assert changed == {P + "lane:q:NORMAL": [(kept.encode(), 2.0)], P + "cursors:q:NORMAL": {b"k:a": b"1"},
                       P + "counters": {b"submitted": b"2", b"CANCELLED": b"1"}}
    assert told(rig)[-1] == (gone, "CANCELLED", 0)


def test_cancel_what_is_due_later(rig: BrokerRig) -> None:
    pending, retrying = rig.pending(expires_ms=rig.now_ms + 2 * HOUR_MS), rig.retrying()
    rig.client.hset(P + "progress", retrying, "{}")
    before = rig.dump()

    assert {rig.broker.cancel(task_id, "why") for task_id in (pending, retrying)} == {TaskStatus.CANCELLED}

    changed = changes(rig, before)
    assert stands(changed[P + "states"][pending.encode()]) == "CANCELLED 0 0 0 1 0 -"
    assert stands(changed[P + "states"][retrying.encode()]) == "CANCELLED 2 1 0 1 1 -"
    assert set(changed[P + "outcomes"]) == {f"{pending}:0".encode(), f"{retrying}:1".encode(), f"{retrying}:2".encode()}
    assert {key for key, value in changed.items() if value is None} == {P + "due", P + "expiring", P + "progress"}
    assert P + "lane:q:NORMAL" not in changed
    assert [outcome["run"] for outcome in rig.broker.outcomes(retrying)] == [1, 2]


def test_cancel_a_running_task_tells_its_supervisor(rig: BrokerRig) -> None:
    task_id = rig.claimed()
    heard = rig.hearing(P + "wakeup:sup")
    before = rig.dump()

    assert rig.broker.cancel(task_id, "not wanted") is TaskStatus.RUNNING

    changed = changes(rig, before)
    assert changed.pop(P + "cancel_requests") == {task_id.encode(): b"1 not wanted"}
    commands = changed.pop(P + "commands:sup")
    assert not changed
    [command] = map(orjson.loads, commands)
    assert len(command.pop("command_id")) == 12
    assert command == {"do": "cancel", "id": task_id, "run": 1, "reason": "not wanted"}
    assert messages(heard, 1) == [b"!"]


def test_no_command_is_like_another(rig: BrokerRig) -> None:
    rig.claimed()
    for _ in range(2):
        rig.broker.send_command("sup", {"do": "stack", "slot": 0})
    assert len(set(rig.client.lrange(P + "commands:sup", 0, -1))) == 2


def test_a_mailbox_is_bounded(rig: BrokerRig) -> None:
    rig.claimed()
    for n in range(1005):
        rig.broker.send_command("sup", {"n": n})
    commands = rig.client.lrange(P + "commands:sup", 0, -1)
    assert [orjson.loads(command)["n"] for command in commands] == list(range(5, 1005))


def test_cancel_tells_those_who_wait(rig: BrokerRig) -> None:
    one, two = rig.submit(), rig.pending()
    heard = rig.hearing(P + "done:a", P + "done:b")
    rig.client.hset(P + "waiters", mapping={one: ",a,b", two: ",b"})
    rig.broker.cancel(one, "why")
    assert messages(heard, 2) == [one.encode()] * 2
    assert rig.dump()[P + "waiters"] == {two.encode(): b",b"}


@pytest.mark.parametrize("status", [TaskStatus.FAILED, TaskStatus.TIMEOUT])
def test_requeue(rig: BrokerRig, status: TaskStatus) -> None:
    rig.submit()
    task_id = rig.ended(status)
    rig.client.hset(P + "rescues", task_id, 3)
    before = rig.dump()

    rig.broker.requeue(task_id)

    changed = changes(rig, before)
    assert stands(changed.pop(P + "states")[task_id.encode()]) == "QUEUED 1 0 0 1 3 -"
    assert changed.pop(P + "lane:q:NORMAL")[-1] == (task_id.encode(), 3.0)
    assert changed.pop(P + "counters")[b"revived"] == b"1"
    assert changed == {f"{P}ended:{status}": None, P + "rescues": None,
                       P + "cursors:q:NORMAL": {b"k:": b"3", b"v": b"2"}}
    assert told(rig)[-1] == (task_id, "QUEUED", 1)


def test_requeue_many_passes_over_what_cannot_be(rig: BrokerRig) -> None:
    ids = [rig.ended(), rig.submit(), rig.ended(queue="x"), "0" * 19, rig.ended(TaskStatus.COMPLETED)]
    rig.client.hset(P + "idle_supervisors", "sup", "*")
    assert rig.broker.requeue_many(ids) == 2
    assert [rig.state(ids[n]).status for n in (0, 1, 2, 4)] == ["QUEUED", "QUEUED", "QUEUED", "COMPLETED"]


def test_a_task_that_was_cancelled_twice_has_two_ends(rig: BrokerRig) -> None:
    task_id = rig.submit()
    for _ in range(2):
        rig.broker.cancel(task_id, "again")
        rig.broker.requeue(task_id)
    assert [outcome["run"] for outcome in rig.broker.outcomes(task_id)] == [0, 1]


def test_set_priority_of_a_queued_task(rig: BrokerRig) -> None:
    task_id, other = rig.submit(), rig.submit(priority=TaskPriority.URGENT)
    before = rig.dump()

    rig.broker.set_priority(task_id, TaskPriority.URGENT)

    changed = changes(rig, before)
    assert stands(changed.pop(P + "states")[task_id.encode()]) == "QUEUED 0 0 0 3 2 -"
    assert changed == {P + "lane:q:NORMAL": None, P + "cursors:q:NORMAL": {b"k:": b"0"},
                       P + "lane:q:URGENT": [(other.encode(), 1.0), (task_id.encode(), 2.0)],
                       P + "cursors:q:URGENT": {b"k:": b"2"}}
    assert rig.broker.cancel(task_id, "why") is TaskStatus.CANCELLED


def test_set_priority_of_what_is_due_later(rig: BrokerRig) -> None:
    for task_id in (rig.pending(), rig.retrying()):
        before = rig.dump()
        rig.broker.set_priority(task_id, TaskPriority.LOW)
        assert set(changes(rig, before)) == {P + "states"}
        assert (rig.state(task_id).priority, rig.state(task_id).rank) == (TaskPriority.LOW, 0)


def test_pause_and_resume(rig: BrokerRig) -> None:
    rig.broker.pause("q")
    assert rig.dump() == {P + "queues": {b"q": b"paused"}}
    ids = [rig.submit() for _ in range(2)]
    heard = rig.hearing(P + "wakeup:a", P + "wakeup:b", P + "wakeup:c")
    rig.client.hset(P + "idle_supervisors", mapping={"a": "*", "b": "*", "c": "*"})
    rig.broker.resume("q")
    assert messages(heard, 2) == [b"q"] * 2
    assert heard.get_message(timeout=0) is None
    assert rig.dump()[P + "queues"] == {b"q": b"open"}
    assert len(ids) == 2


def test_a_queue_that_was_emptied_while_it_was_paused_is_served_again(rig: BrokerRig) -> None:
    supervisor, task_id = Supervisor(rig), rig.submit()
    rig.broker.pause("q")
    assert supervisor.claim(1) == []
    rig.broker.cancel(task_id, "why")
    rig.broker.resume("q")
    task_id = rig.submit()
    assert supervisor.claim(1) == [task_id]


def test_purge_cancels_what_is_queued_and_nothing_else(rig: BrokerRig) -> None:
    others = [rig.claimed(), rig.pending(), rig.submit("x"), rig.ended()]
    before = [rig.state(task_id) for task_id in others]
    ids = [rig.submit(priority=priority) for priority in TaskPriority for _ in range(70)]
    assert rig.broker.purge("q", 100) == 100
    assert rig.broker.purge("q", 1000) == 180
    assert rig.broker.purge("q", 1000) == 0
    assert {rig.state(task_id).status for task_id in ids} == {TaskStatus.CANCELLED}
    assert [rig.state(task_id) for task_id in others] == before


def test_delete_leaves_nothing(rig: BrokerRig) -> None:
    kept = rig.submit()
    before = rig.dump()
    task_id = rig.ended()
    rig.client.rpush(P + "log:" + task_id, "{}")
    rig.client.hset(P + "progress", task_id, "{}")
    rig.client.hset(P + "rescues", task_id, 1)
    rig.client.hset(P + "waiters", task_id, ",a")
    rig.broker.requeue(task_id)
    rig.broker.cancel(task_id, "why")

    assert rig.broker.delete([task_id, kept, "0" * 19]) == 1

    changed = changes(rig, before)
    for key in ("counters", "cursors:q:NORMAL", "supervisors"):
        changed.pop(P + key)
    assert changed == {}
