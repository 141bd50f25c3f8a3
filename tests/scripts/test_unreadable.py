"""A task that cannot be read ends as one that says so, and nothing else stands still because of it."""

import logging
from typing import Any

import pytest

from engine.adapters.redis.tasks.amend import amend
from engine.client.models import Task
from engine.core.task.lifecycle import TaskStatus
from engine.errors import BrokerError, MoveRefused
from tests.scripts.shop import HOUR_MS, Shop
from tests.scripts.test_refusals import reconcile_all

P = "ganger:{0}:"
BROKEN = b'["t","q"'  # a record that was cut off
RECORDS = [b"", b"\xff\xfe", b"no newline", BROKEN + b"\n{}", b'["t","q",1,{"tags":7}]\n{}', b"null\n{}"]
LIVES = [b"", b"\xff\xfe", b"RUNNING", b"NOWHERE 1 0 0 1 5 6 -", b"QUEUED 9999999999 0 0 1 1 1 -",
         b"QUEUED 1 0 0 9 1 1 -"]
STRANGERS: list[Any] = [b"", b"\xff\xfe\xfd", b"x", b"u" * 19, b"0" * 18, b"0" * 20]


def mended(shop: Shop) -> dict[str, int]:
    return {what: times for what, times in reconcile_all(shop).items() if what != "flows"}


def end_of(shop: Shop, task_id: str) -> tuple[str, str]:
    task = Task.of(shop.broker.read([task_id])[0])
    assert task.error is not None
    return task.status, task.error.kind


@pytest.mark.parametrize("record", RECORDS)
def test_a_broken_record_of_a_task_that_is_due(shop: Shop, record: bytes, caplog: pytest.LogCaptureFixture) -> None:
    broken, expiring, sound = shop.pending(), shop.pending(expires_ms=1), shop.pending()
    for task_id in (broken, expiring):
        shop.client.hset(P + "tasks", task_id, record)
    shop.client.zadd(P + "due", {broken: 1, sound: 2})
    with caplog.at_level(logging.ERROR, "ganger.errors"):
        assert shop.keeper.promote(10)[0] == 2
        assert shop.keeper.expire(10)[0] == 1
    assert shop.state(sound).status is TaskStatus.QUEUED
    assert [end_of(shop, task_id) for task_id in (broken, expiring)] == [("FAILED", "UnreadableRecord")] * 2
    assert [told.task_id for told in caplog.records] == [broken, expiring]
    assert shop.broker.counters()["unreadable"] == 2
    assert not mended(shop)


@pytest.mark.parametrize("record", RECORDS)
def test_a_broken_record_in_a_line(shop: Shop, record: bytes) -> None:
    broken, sound = shop.submit(), shop.submit()
    shop.client.hset(P + "tasks", broken, record)
    assert mended(shop) == {"unreadable": 1, "zset": 1}, "its queue stood in the record: the id is found later"
    assert end_of(shop, broken) == ("FAILED", "UnreadableRecord")
    assert shop.client.zrange(P + "lane:q:NORMAL", 0, -1) == [sound.encode()]
    assert not mended(shop)


def test_a_broken_record_of_a_run_whose_supervisor_is_gone(shop: Shop) -> None:
    broken, sound = shop.claimed(), shop.claimed()
    shop.client.hset(P + "tasks", broken, BROKEN)
    assert not mended(shop), "while it runs its supervisor sees to it"
    shop.keeper.expire_lease("sup")
    report = shop.keeper.rescue("sup", 10)
    assert (report.failed, report.released, report.is_over) == (1, 1, True)
    assert end_of(shop, broken) == ("FAILED", "UnreadableRecord")
    assert shop.state(sound).status is TaskStatus.QUEUED


@pytest.mark.parametrize("line", LIVES)
def test_a_broken_state(shop: Shop, line: bytes) -> None:
    due, held, sound = shop.pending(), shop.claimed(), shop.claimed()
    for task_id in (due, held):
        shop.client.hset(P + "states", task_id, line)
    shop.client.zadd(P + "due", {due: 1})
    assert end_of(shop, due) == ("FAILED", "UnreadableRecord")
    shop.keeper.promote(10)
    assert shop.client.zcard(P + "due") == 0
    shop.keeper.expire_lease("sup")
    assert shop.keeper.rescue("sup", 10).is_over
    assert mended(shop) == {"lost": 1}
    assert [end_of(shop, task_id) for task_id in (due, held)] == [("FAILED", "UnreadableRecord")] * 2
    assert shop.state(held).run > 1, "so that no run that may still be under way can settle"
    assert shop.state(sound).status is TaskStatus.QUEUED
    assert not mended(shop)
    assert shop.broker.delete([due, held]) == 2


@pytest.mark.parametrize("member", STRANGERS)
def test_what_is_no_id_is_taken_out(shop: Shop, member: bytes) -> None:
    sound = shop.pending()
    shop.claimed()
    for key in ("due", "expiring", "ended:FAILED", "lane:q:NORMAL"):
        shop.client.zadd(P + key, {member: 1})
    shop.client.zadd(P + "due", {sound: 2})
    shop.client.sadd(P + "running:sup", member)
    for key in ("tasks", "states"):
        shop.client.hset(P + key, member, BROKEN)
    assert shop.keeper.promote(10)[0] == 1
    shop.keeper.expire(10)
    shop.keeper.sweep(10)
    assert shop.broker.purge("q", 10) == 1
    shop.keeper.expire_lease("sup")
    assert shop.keeper.rescue("sup", 10).is_over
    assert mended(shop) == {"stranger": 2 if member else 1}, "every script removes the stored state of nothing"
    assert not mended(shop)
    assert not any(member in str(value).encode() for key, value in shop.dump().items() if member == b"\xff\xfe\xfd")


def test_letters_and_counts_that_make_no_sense(shop: Shop) -> None:
    task_id = shop.claimed()
    shop.client.rpush(P + "commands:sup", b"", b"7", b"[]", b"\xff", b'{"do":"cancel"}',
                      b'{"do":"cancel","id":[],"run":1}')
    shop.client.hset(P + "rescues", task_id, "many")
    shop.keeper.expire_lease("sup")
    assert shop.keeper.rescue("sup", 10).released == 1
    shop.client.zadd(P + "supervisors", {b"\xff\xfe": 1, "forever": float("inf"), "never": float("-inf")})
    assert shop.keeper.leases()["never"] == 0
    assert b"\xff\xfe" not in dict(shop.client.zrange(P + "supervisors", 0, -1, withscores=True))
    assert {one["supervisor"] for one in shop.broker.supervisors()} == {"forever", "never"}


def test_what_cannot_be_done_to_one(shop: Shop) -> None:
    waiting, ended = shop.submit(), shop.ended()
    for task_id in (waiting, ended):
        shop.client.hset(P + "tasks", task_id, BROKEN)
    with pytest.raises(BrokerError, match="cannot be read"):
        shop.unchanged(lambda: shop.broker.requeue(ended))
    with pytest.raises(BrokerError, match="cannot be read"):
        shop.unchanged(lambda: amend(shop.broker.redis, shop.keys, waiting, {"name": "x"}, None, kept_ms=HOUR_MS))
    assert shop.unchanged(lambda: shop.broker.requeue_many([ended])) == 0
    assert shop.broker.cancel(waiting, "why") is TaskStatus.CANCELLED
    with pytest.raises(MoveRefused):
        shop.broker.cancel(ended, "why")
    assert shop.broker.delete([waiting, ended]) == 2


def test_a_huge_number_of_runs_stops_nobody(shop: Shop) -> None:
    task_id = shop.ended()
    shop.set_life(task_id, TaskStatus.FAILED, run=999_999_999)
    assert shop.broker.outcomes(task_id) == []
    assert shop.broker.delete([task_id]) == 1


@pytest.mark.parametrize("outcome", [b"", b"nonsense", b"[]", b'{"error":"x"}', b'{"ended_ms":1e300}', b'{"worker":7}',
                                     b'{"error":{"kind":1,"message":"m"}}', b'{"run":"x"}', b"\xff"])
def test_an_outcome_that_cannot_be_read(shop: Shop, outcome: bytes) -> None:
    task_id = shop.ended(TaskStatus.COMPLETED)
    shop.client.hset(P + "outcomes", f"{task_id}:1", outcome)
    task = Task.of(shop.broker.read([task_id])[0])
    assert task.status is TaskStatus.COMPLETED
    assert outcome == b"" or (task.error is not None and task.error.kind == "UnreadableRecord")
    assert len(shop.broker.outcomes(task_id)) == (outcome != b"")


def test_counters_and_places_that_are_none(shop: Shop) -> None:
    shop.client.hset(P + "counters", mapping={"submitted": "x", "mended": "y", "FAILED": "z"})
    shop.client.hset(P + "cursors:q:NORMAL", mapping={"v": "x", "k:": "y"})
    task_id = shop.submit()
    assert shop.client.zscore(P + "lane:q:NORMAL", task_id) == 1
    assert shop.broker.cancel(task_id, "why") is TaskStatus.CANCELLED
    assert shop.submit("q", expires_ms=shop.now_ms + HOUR_MS)
    assert "submitted" not in shop.broker.counters()
