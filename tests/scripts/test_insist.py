"""What was to be cancelled while it ran ends, though its run has ended in another way before the letter was read."""

from collections.abc import Callable

import pytest

from engine.core.task.lifecycle import TaskStatus
from tests.scripts.shop import HOUR_MS, Shop

P = "ganger:{0}:"


def released(shop: Shop, task_id: str) -> None:
    state = shop.state(task_id)
    shop.client.srem(P + "running:sup", task_id)
    shop.set_life(task_id, TaskStatus.QUEUED)
    shop.client.zadd(P + "lane:q:NORMAL", {task_id: state.rank})


def retried(shop: Shop, task_id: str) -> None:
    shop.settle(task_id, TaskStatus.RETRYING)


def wished(shop: Shop) -> str:
    task_id = shop.claimed()
    assert shop.broker.cancel(task_id, "not wanted") is TaskStatus.RUNNING
    assert shop.client.hgetall(P + "cancel_requests") == {task_id.encode(): b"1 not wanted"}
    assert shop.keeper.poll("k", shop.now_ms + HOUR_MS).cancels == 1
    return task_id


@pytest.mark.parametrize("went", [released, retried])
def test_what_got_away_is_cancelled(shop: Shop, went: Callable[[Shop, str], None]) -> None:
    task_id = wished(shop)
    assert shop.keeper.reapply_cancel_requests()[0] == 0, "its supervisor has a letter"
    went(shop, task_id)
    assert shop.keeper.reapply_cancel_requests()[0] == 1
    assert shop.state(task_id).status is TaskStatus.CANCELLED
    assert shop.broker.outcomes(task_id)[-1]["error"]["message"] == "not wanted"
    assert not shop.client.exists(P + "cancel_requests")


def test_whoever_runs_it_now_gets_a_letter_too(shop: Shop) -> None:
    task_id = wished(shop)
    released(shop, task_id)
    shop.claim(task_id, "other")
    assert shop.keeper.reapply_cancel_requests()[0] == 0
    assert shop.client.hgetall(P + "cancel_requests") == {task_id.encode(): b"2 not wanted"}
    assert shop.client.llen(P + "commands:other") == 1
    assert shop.keeper.reapply_cancel_requests()[0] == 0
    assert shop.client.llen(P + "commands:other") == 1, "one is enough"


def test_what_has_ended_is_forgotten(shop: Shop) -> None:
    ids = [wished(shop)]
    shop.settle(ids[0], TaskStatus.COMPLETED)
    shop.client.hset(P + "cancel_requests", mapping={"0" * 19: "1 why", "nobody": b"\xff", b"\xff": ""})
    assert shop.keeper.reapply_cancel_requests()[0] == 4
    assert shop.state(ids[0]).status is TaskStatus.COMPLETED
    assert not shop.client.exists(P + "cancel_requests")


def test_a_task_that_is_tried_again_is_wanted_again(shop: Shop) -> None:
    task_id = wished(shop)
    shop.settle(task_id, TaskStatus.FAILED)
    shop.broker.requeue(task_id)
    assert not shop.client.exists(P + "cancel_requests")
    assert shop.keeper.reapply_cancel_requests()[0] == 0
    assert shop.state(task_id).status is TaskStatus.QUEUED


def test_a_wish_that_was_made_anew_is_kept(shop: Shop) -> None:
    shop.client.hset(P + "cancel_requests", "a", "2 why")
    assert shop.unchanged(lambda: shop.call("drop_cancel_requests", "a", "1 why", "b", "1 why")) == 0
    assert shop.call("drop_cancel_requests", "a", "2 why") == 1
