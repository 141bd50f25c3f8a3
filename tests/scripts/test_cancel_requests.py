"""What was to be cancelled while it ran ends, though its run has ended in another way before the command was read."""

from collections.abc import Callable

import pytest

from engine.core.task.lifecycle import TaskStatus
from tests.scripts.broker_rig import HOUR_MS, BrokerRig

P = "ganger:{0}:"


def released(rig: BrokerRig, task_id: str) -> None:
    state = rig.state(task_id)
    rig.client.srem(P + "running:sup", task_id)
    rig.set_life(task_id, TaskStatus.QUEUED)
    rig.client.zadd(P + "lane:q:NORMAL", {task_id: state.rank})


def retried(rig: BrokerRig, task_id: str) -> None:
    rig.settle(task_id, TaskStatus.RETRYING)


def wished(rig: BrokerRig) -> str:
    task_id = rig.claimed()
    assert rig.broker.cancel(task_id, "not wanted") is TaskStatus.RUNNING
    assert rig.client.hgetall(P + "cancel_requests") == {task_id.encode(): b"1 not wanted"}
    assert rig.keeper.poll("k", rig.now_ms + HOUR_MS).cancels == 1
    return task_id


@pytest.mark.parametrize("went", [released, retried])
def test_what_got_away_is_cancelled(rig: BrokerRig, went: Callable[[BrokerRig, str], None]) -> None:
    task_id = wished(rig)
    assert rig.keeper.reapply_cancel_requests()[0] == 0, "its supervisor has a command"
    went(rig, task_id)
    assert rig.keeper.reapply_cancel_requests()[0] == 1
    assert rig.state(task_id).status is TaskStatus.CANCELLED
    assert rig.broker.outcomes(task_id)[-1]["error"]["message"] == "not wanted"
    assert not rig.client.exists(P + "cancel_requests")


def test_whoever_runs_it_now_gets_a_command_too(rig: BrokerRig) -> None:
    task_id = wished(rig)
    released(rig, task_id)
    rig.claim(task_id, "other")
    assert rig.keeper.reapply_cancel_requests()[0] == 0
    assert rig.client.hgetall(P + "cancel_requests") == {task_id.encode(): b"2 not wanted"}
    assert rig.client.llen(P + "commands:other") == 1
    assert rig.keeper.reapply_cancel_requests()[0] == 0
    assert rig.client.llen(P + "commands:other") == 1, "one is enough"


def test_what_has_ended_is_forgotten(rig: BrokerRig) -> None:
    ids = [wished(rig)]
    rig.settle(ids[0], TaskStatus.COMPLETED)
    rig.client.hset(P + "cancel_requests", mapping={"0" * 19: "1 why", "nobody": b"\xff", b"\xff": ""})
    assert rig.keeper.reapply_cancel_requests()[0] == 4
    assert rig.state(ids[0]).status is TaskStatus.COMPLETED
    assert not rig.client.exists(P + "cancel_requests")


def test_a_task_that_is_tried_again_is_wanted_again(rig: BrokerRig) -> None:
    task_id = wished(rig)
    rig.settle(task_id, TaskStatus.FAILED)
    rig.broker.requeue(task_id)
    assert not rig.client.exists(P + "cancel_requests")
    assert rig.keeper.reapply_cancel_requests()[0] == 0
    assert rig.state(task_id).status is TaskStatus.QUEUED


def test_a_wish_that_was_made_anew_is_kept(rig: BrokerRig) -> None:
    rig.client.hset(P + "cancel_requests", "a", "2 why")
    assert rig.unchanged(lambda: rig.call("drop_cancel_requests", "a", "1 why", "b", "1 why")) == 0
    assert rig.call("drop_cancel_requests", "a", "2 why") == 1
