"""submit and submit_detailed: what is in Redis afterwards, key by key."""

from engine.core.task.event import events
from engine.core.task.lifecycle import TaskStatus
from engine.core.task.priority import TaskPriority
from tests.scripts.broker_rig import HOUR_MS, BrokerRig, messages

P = "ganger:{0}:"


def told(rig: BrokerRig) -> list[tuple[str, str, int]]:
    """All that the stream of events says."""
    return [tuple(event) for entry in rig.dump().get(P + "events", []) for event in events(entry[b"e"])]


def test_plain_tasks_cost_a_record_and_a_place(rig: BrokerRig) -> None:
    first, second = rig.new(), rig.new()
    other = rig.new("mail", TaskPriority.URGENT)

    assert rig.broker.submit([first, other, second]) == [first.id, other.id, second.id]

    state = rig.dump()
    row = state[P + "events"]
    assert [[queue for queue, _ in state.pop(P + turns)] for turns in ("round_robin:NORMAL", "round_robin:URGENT")] == [
        [b"q"], [b"mail"]]
    assert state == {
        P + "tasks": {task.id.encode(): task.record.encode() for task in (first, second, other)},
        P + "lane:q:NORMAL": [(first.id.encode(), 1.0), (second.id.encode(), 2.0)],
        P + "cursors:q:NORMAL": {b"k:": b"2"},
        P + "lane:mail:URGENT": [(other.id.encode(), 1.0)],
        P + "cursors:mail:URGENT": {b"k:": b"1"},
        P + "queues": {b"q": b"open", b"mail": b"open"},
        P + "counters": {b"submitted": b"3"},
        P + "events": row,
    }
    assert sorted(told(rig)) == sorted((task.id, TaskStatus.QUEUED, 0) for task in (first, second, other))


def test_detailed_tasks(rig: BrokerRig) -> None:
    now_ms = rig.now_ms
    later = rig.new(priority=TaskPriority.HIGH, due_ms=now_ms + HOUR_MS, expires_ms=now_ms + 2 * HOUR_MS)
    fair = rig.new(fair_key="a")
    once = rig.new(key="once")

    rig.broker.submit([later, fair, once])

    state = rig.dump()
    status, *_, at_ms, owner = state[P + "states"].pop(later.id.encode()).decode().split(" ")
    assert (status, owner) == ("PENDING", "-")
    assert 0 <= int(at_ms) - now_ms < 60_000
    assert state.pop(P + "events")
    assert [queue for queue, _ in state.pop(P + "round_robin:NORMAL")] == [b"q"]
    assert state == {
        P + "tasks": {task.id.encode(): task.record.encode() for task in (later, fair, once)},
        P + "states": {},
        P + "due": [(later.id.encode(), float(now_ms + HOUR_MS))],
        P + "expiring": [(later.id.encode(), float(now_ms + 2 * HOUR_MS))],
        P + "lane:q:NORMAL": [(fair.id.encode(), 1.0), (once.id.encode(), 1.0)],
        P + "cursors:q:NORMAL": {b"k:a": b"1", b"k:": b"1"},
        P + "queues": {b"q": b"open"},
        P + "idempotency:q:once": once.id.encode(),
        P + "counters": {b"submitted": b"3"},
    }
    assert 0 < rig.client.pttl(P + "idempotency:q:once") <= 86_400_000
    assert told(rig) == [(later.id, "PENDING", 0), (fair.id, "QUEUED", 0), (once.id, "QUEUED", 0)]


def test_what_was_due_before_is_queued_at_once(rig: BrokerRig) -> None:
    task_id = rig.submit(due_ms=rig.now_ms - 1)
    assert rig.client.zscore(P + "lane:q:NORMAL", task_id) == 1
    assert not rig.client.exists(P + "states", P + "due")


def test_one_key_in_one_call_stands_for_one_task(rig: BrokerRig) -> None:
    first, second, third = rig.new(key="k"), rig.new(key="k"), rig.new(key="other")
    assert rig.broker.submit([first, second, third]) == [first.id, first.id, third.id]
    assert set(rig.dump()[P + "tasks"]) == {first.id.encode(), third.id.encode()}


def test_a_key_whose_task_is_forgotten_is_free_again(rig: BrokerRig) -> None:
    first = rig.submit(key="k")
    rig.broker.cancel(first, "not wanted")
    assert rig.submit(key="k") == first
    rig.broker.delete([first])
    second = rig.submit(key="k")
    assert second != first
    assert rig.client.get(P + "idempotency:q:k") == second.encode()


def test_a_paused_queue_stays_paused(rig: BrokerRig) -> None:
    rig.broker.pause("q")
    rig.submit()
    rig.submit(fair_key="a")
    assert rig.dump()[P + "queues"] == {b"q": b"paused"}


def test_fair_keys_take_turns_and_one_that_was_away_starts_level(rig: BrokerRig) -> None:
    many = rig.broker.submit([rig.new(fair_key="a") for _ in range(4)])
    few = rig.broker.submit([rig.new(fair_key="b") for _ in range(2)])
    line = [task_id.decode() for task_id, _ in rig.dump()[P + "lane:q:NORMAL"]]
    assert line == [many[0], few[0], many[1], few[1], many[2], many[3]]

    for task_id in line[:5]:
        rig.claim(task_id)
    late = rig.submit(fair_key="c")
    assert rig.client.zscore(P + "lane:q:NORMAL", late) == rig.client.zscore(P + "lane:q:NORMAL", many[3]) == 4


def test_a_submit_wakes_as_many_as_there_are_tasks_and_passes_the_dead_over(rig: BrokerRig) -> None:
    heard = rig.hearing(P + "wakeup:one", P + "wakeup:two", P + "wakeup:other")
    rig.client.hset(P + "idle_supervisors", mapping={
        "dead": "*", "one": "*", "two": ",x,q,", "other": ",x,", "strange": "*"})
    for supervisor in ("dead", "one", "two", "other"):
        rig.client.sadd(P + "types:" + supervisor, "t")

    rig.submit()
    assert len(messages(heard, 1)) == 1
    rig.submit(fair_key="a")
    assert messages(heard, 1) == [b"q"]
    assert rig.client.hget(P + "idle_supervisors", "other") == b",x,"

    rig.submit()
    assert rig.dump()[P + "idle_supervisors"] == {b"other": b",x,", b"strange": b"*"}
    assert heard.get_message(timeout=0) is None


def test_a_delayed_task_tells_the_keeper(rig: BrokerRig) -> None:
    heard = rig.hearing(P + "wakeup:keeper")
    due_ms = rig.now_ms + HOUR_MS
    rig.submit(due_ms=due_ms)
    assert messages(heard, 1) == [str(due_ms).encode()]


def test_many_batches_keep_their_order(rig: BrokerRig) -> None:
    tasks = [rig.new() for _ in range(700)]
    tasks[300] = rig.new(fair_key="a")
    assert rig.broker.submit(tasks) == [task.id for task in tasks]
    line = [task_id.decode() for task_id, _ in rig.dump()[P + "lane:q:NORMAL"]]
    assert [task_id for task_id in line if task_id != tasks[300].id] == [
        task.id for task in tasks if task is not tasks[300]]
    assert len(told(rig)) == 700
