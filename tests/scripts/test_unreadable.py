"""A task that cannot be read ends as one that says so, and nothing else stands still because of it."""

import logging
from typing import Any

import pytest

from engine.adapters.redis.tasks.amend import amend
from engine.client.models import Task
from engine.core.task.lifecycle import TaskStatus
from engine.errors import BrokerError, MoveRefused
from tests.scripts.broker_rig import HOUR_MS, BrokerRig
from tests.scripts.test_refusals import reconcile_all

P = "ganger:{0}:"
BROKEN = b'["t","q"'  # a record that was cut off
RECORDS = [b"", b"\xff\xfe", b"no newline", BROKEN + b"\n{}", b'["t","q",1,{"tags":7}]\n{}', b"null\n{}"]
LIVES = [b"", b"\xff\xfe", b"RUNNING", b"NOWHERE 1 0 0 1 5 6 -", b"QUEUED 9999999999 0 0 1 1 1 -",
         b"QUEUED 1 0 0 9 1 1 -"]
STRANGERS: list[Any] = [b"", b"\xff\xfe\xfd", b"x", b"u" * 19, b"0" * 18, b"0" * 20]


def mended(rig: BrokerRig) -> dict[str, int]:
    return {what: times for what, times in reconcile_all(rig).items() if what != "flows"}


def end_of(rig: BrokerRig, task_id: str) -> tuple[str, str]:
    task = Task.of(rig.broker.read([task_id])[0])
    assert task.error is not None
    return task.status, task.error.kind


@pytest.mark.parametrize("record", RECORDS)
def test_a_broken_record_of_a_task_that_is_due(rig: BrokerRig, record: bytes, caplog: pytest.LogCaptureFixture) -> None:
    broken, expiring, sound = rig.pending(), rig.pending(expires_ms=1), rig.pending()
    for task_id in (broken, expiring):
        rig.client.hset(P + "tasks", task_id, record)
    rig.client.zadd(P + "due", {broken: 1, sound: 2})
    with caplog.at_level(logging.ERROR, "ganger.errors"):
        assert rig.keeper.promote(10)[0] == 2
        assert rig.keeper.expire(10)[0] == 1
    assert rig.state(sound).status is TaskStatus.QUEUED
    assert [end_of(rig, task_id) for task_id in (broken, expiring)] == [("FAILED", "UnreadableRecord")] * 2
    assert [told.task_id for told in caplog.records] == [broken, expiring]
    assert rig.broker.counters()["unreadable"] == 2
    assert not mended(rig)


@pytest.mark.parametrize("record", RECORDS)
def test_a_broken_record_in_a_line(rig: BrokerRig, record: bytes) -> None:
    broken, sound = rig.submit(), rig.submit()
    rig.client.hset(P + "tasks", broken, record)
    assert mended(rig) == {"unreadable": 1, "zset": 1}, "its queue stood in the record: the id is found later"
    assert end_of(rig, broken) == ("FAILED", "UnreadableRecord")
    assert rig.client.zrange(P + "lane:q:NORMAL", 0, -1) == [sound.encode()]
    assert not mended(rig)


def test_a_broken_record_of_a_run_whose_supervisor_is_gone(rig: BrokerRig) -> None:
    broken, sound = rig.claimed(), rig.claimed()
    rig.client.hset(P + "tasks", broken, BROKEN)
    assert not mended(rig), "while it runs its supervisor sees to it"
    rig.keeper.expire_lease("sup")
    report = rig.keeper.rescue("sup", 10)
    assert (report.failed, report.released, report.is_over) == (1, 1, True)
    assert end_of(rig, broken) == ("FAILED", "UnreadableRecord")
    assert rig.state(sound).status is TaskStatus.QUEUED


@pytest.mark.parametrize("line", LIVES)
def test_a_broken_state(rig: BrokerRig, line: bytes) -> None:
    due, held, sound = rig.pending(), rig.claimed(), rig.claimed()
    for task_id in (due, held):
        rig.client.hset(P + "states", task_id, line)
    rig.client.zadd(P + "due", {due: 1})
    assert end_of(rig, due) == ("FAILED", "UnreadableRecord")
    rig.keeper.promote(10)
    assert rig.client.zcard(P + "due") == 0
    rig.keeper.expire_lease("sup")
    assert rig.keeper.rescue("sup", 10).is_over
    assert mended(rig) == {"lost": 1}
    assert [end_of(rig, task_id) for task_id in (due, held)] == [("FAILED", "UnreadableRecord")] * 2
    assert rig.state(held).run > 1, "so that no run that may still be under way can settle"
    assert rig.state(sound).status is TaskStatus.QUEUED
    assert not mended(rig)
    assert rig.broker.delete([due, held]) == 2


@pytest.mark.parametrize("member", STRANGERS)
def test_what_is_no_id_is_taken_out(rig: BrokerRig, member: bytes) -> None:
    sound = rig.pending()
    rig.claimed()
    for key in ("due", "expiring", "ended:FAILED", "lane:q:NORMAL"):
        rig.client.zadd(P + key, {member: 1})
    rig.client.zadd(P + "due", {sound: 2})
    rig.client.sadd(P + "running:sup", member)
    for key in ("tasks", "states"):
        rig.client.hset(P + key, member, BROKEN)
    assert rig.keeper.promote(10)[0] == 1
    rig.keeper.expire(10)
    rig.keeper.sweep(10)
    assert rig.broker.purge("q", 10) == 1
    rig.keeper.expire_lease("sup")
    assert rig.keeper.rescue("sup", 10).is_over
    assert mended(rig) == {"stranger": 2 if member else 1}, "every script removes the stored state of nothing"
    assert not mended(rig)
    assert not any(member in str(value).encode() for key, value in rig.dump().items() if member == b"\xff\xfe\xfd")


def test_commands_and_counts_that_make_no_sense(rig: BrokerRig) -> None:
    task_id = rig.claimed()
    rig.client.rpush(P + "commands:sup", b"", b"7", b"[]", b"\xff", b'{"do":"cancel"}',
                      b'{"do":"cancel","id":[],"run":1}')
    rig.client.hset(P + "rescues", task_id, "many")
    rig.keeper.expire_lease("sup")
    assert rig.keeper.rescue("sup", 10).released == 1
    rig.client.zadd(P + "supervisors", {b"\xff\xfe": 1, "forever": float("inf"), "never": float("-inf")})
    assert rig.keeper.leases()["never"] == 0
    assert b"\xff\xfe" not in dict(rig.client.zrange(P + "supervisors", 0, -1, withscores=True))
    assert {one["supervisor"] for one in rig.broker.supervisors()} == {"forever", "never"}


def test_what_cannot_be_done_to_one(rig: BrokerRig) -> None:
    waiting, ended = rig.submit(), rig.ended()
    for task_id in (waiting, ended):
        rig.client.hset(P + "tasks", task_id, BROKEN)
    with pytest.raises(BrokerError, match="cannot be read"):
        rig.unchanged(lambda: rig.broker.requeue(ended))
    with pytest.raises(BrokerError, match="cannot be read"):
        rig.unchanged(lambda: amend(rig.broker.redis, rig.keys, waiting, {"name": "x"}, None, kept_ms=HOUR_MS))
    assert rig.unchanged(lambda: rig.broker.requeue_many([ended])) == 0
    assert rig.broker.cancel(waiting, "why") is TaskStatus.CANCELLED
    with pytest.raises(MoveRefused):
        rig.broker.cancel(ended, "why")
    assert rig.broker.delete([waiting, ended]) == 2


def test_a_huge_number_of_runs_stops_nobody(rig: BrokerRig) -> None:
    task_id = rig.ended()
    rig.set_life(task_id, TaskStatus.FAILED, run=999_999_999)
    assert rig.broker.outcomes(task_id) == []
    assert rig.broker.delete([task_id]) == 1


@pytest.mark.parametrize("outcome", [b"", b"nonsense", b"[]", b'{"error":"x"}', b'{"ended_ms":1e300}', b'{"worker":7}',
                                     b'{"error":{"kind":1,"message":"m"}}', b'{"run":"x"}', b"\xff"])
def test_an_outcome_that_cannot_be_read(rig: BrokerRig, outcome: bytes) -> None:
    task_id = rig.ended(TaskStatus.COMPLETED)
    rig.client.hset(P + "outcomes", f"{task_id}:1", outcome)
    task = Task.of(rig.broker.read([task_id])[0])
    assert task.status is TaskStatus.COMPLETED
    assert outcome == b"" or (task.error is not None and task.error.kind == "UnreadableRecord")
    assert len(rig.broker.outcomes(task_id)) == (outcome != b"")


def test_counters_and_places_that_are_none(rig: BrokerRig) -> None:
    rig.client.hset(P + "counters", mapping={"submitted": "x", "mended": "y", "FAILED": "z"})
    rig.client.hset(P + "cursors:q:NORMAL", mapping={"v": "x", "k:": "y"})
    task_id = rig.submit()
    assert rig.client.zscore(P + "lane:q:NORMAL", task_id) == 1
    assert rig.broker.cancel(task_id, "why") is TaskStatus.CANCELLED
    assert rig.submit("q", expires_ms=rig.now_ms + HOUR_MS)
    assert "submitted" not in rig.broker.counters()
