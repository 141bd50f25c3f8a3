"""The stored states of all tasks are deleted: nothing that has ended runs again, and everything else goes on."""

import logging
from typing import Any

import pytest

from engine.adapters.redis.tasks.amend import amend
from engine.core.task.lifecycle import TaskStatus
from engine.core.task.priority import TaskPriority
from engine.errors import MoveRefused
from tests.scripts.broker_rig import HOUR_MS, BrokerRig, messages
from tests.scripts.test_operating import stands
from tests.scripts.test_refusals import reconcile_all, sync_held_runs
from tests.scripts.test_repair_task import place_of
from tests.scripts.test_step import Supervisor

ENDS = (TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED, TaskStatus.TIMEOUT)


def lose_states(rig: BrokerRig) -> None:
    rig.client.delete(rig.keys.states)


def mended(rig: BrokerRig) -> dict[str, int]:
    return {what: times for what, times in reconcile_all(rig).items() if what != "flows"}


def claimable(rig: BrokerRig) -> set[str]:
    found = set()
    while got := Supervisor(rig, "probe").claim(50):
        found |= set(got)
    return found


@pytest.mark.parametrize("status", ENDS)
def test_what_has_ended_has_ended_again_with_its_outcome(rig: BrokerRig, status: TaskStatus) -> None:
    waiting, ended = rig.submit(), rig.ended(status, max_deliveries=1)
    rig.client.hset(rig.keys.waiters, ended, ",me")
    lose_states(rig)
    with rig.hearing(rig.keys.done("me")) as heard:
        assert mended(rig) == {"state": 1}
        assert messages(heard, 1) == [ended.encode()]
    stored = rig.broker.read([ended])[0]
    assert (stored.state.status, stored.state.run, stored.outcome["run"]) == (status, 1, 1)
    assert place_of(rig, ended) == {f"ended:{status}"}
    assert claimable(rig) == {waiting}
    assert not mended(rig)


def test_what_is_due_keeps_its_moment_and_its_runs(rig: BrokerRig) -> None:
    pending, retrying = rig.pending(), rig.retrying()
    moments = rig.client.zrange(rig.keys.due, 0, -1, withscores=True)
    lose_states(rig)
    assert mended(rig) == {"state": 2}
    assert stands(rig.client.hget(rig.keys.states, pending)) == "PENDING 0 0 0 1 0 -"
    assert stands(rig.client.hget(rig.keys.states, retrying)) == "RETRYING 1 0 0 1 0 -"
    assert rig.client.zrange(rig.keys.due, 0, -1, withscores=True) == moments
    assert claimable(rig) == set()


def test_what_is_due_now_is_promoted_once_it_has_its_state(rig: BrokerRig) -> None:
    first, later = rig.pending(), rig.pending()
    rig.client.zadd(rig.keys.due, {first: 1})
    rig.client.hdel(rig.keys.states, first)
    assert rig.keeper.promote(10)[0] == 1
    assert claimable(rig) == {first}
    assert rig.state(later).status is TaskStatus.PENDING


@pytest.mark.parametrize("repaired", [True, False])
@pytest.mark.parametrize("run", [1, 3])
def test_a_run_that_goes_on_can_end(rig: BrokerRig, repaired: bool, run: int) -> None:
    supervisor, task_id = Supervisor(rig), rig.submit(priority=TaskPriority.HIGH)
    assert supervisor.claim(1) == [task_id]
    rig.set_life(task_id, TaskStatus.RUNNING, "sup", run=run)
    lose_states(rig)
    if repaired:
        assert mended(rig) == {"state": 1}
        assert (rig.state(task_id).status, rig.state(task_id).owner) == (TaskStatus.RUNNING, "sup")
        assert rig.state(task_id).priority is TaskPriority.HIGH
    assert supervisor.end(task_id, "complete nobody", run) == []
    assert (rig.state(task_id).status, rig.state(task_id).run) == (TaskStatus.COMPLETED, run)
    assert not mended(rig)
    assert claimable(rig) == set()


@pytest.mark.parametrize("verdict", ["retry attempt", "release nobody"])
def test_a_run_that_goes_on_can_be_run_again(rig: BrokerRig, verdict: str) -> None:
    supervisor, task_id = Supervisor(rig), rig.submit()
    supervisor.claim(1)
    lose_states(rig)
    assert supervisor.end(task_id, verdict, at="q" if verdict.startswith("release") else 1) == []
    rig.keeper.promote(10)
    assert supervisor.step(want=1)[1][0][0] == task_id
    assert rig.state(task_id).run == 2


def test_another_supervisor_cannot_end_it(rig: BrokerRig) -> None:
    task_id = rig.claimed(supervisor="other")
    lose_states(rig)
    assert Supervisor(rig).end(task_id, "complete nobody") == [1, "GONE"]


@pytest.mark.parametrize("repaired", [True, False])
def test_a_supervisor_that_connects_again_keeps_what_it_knows_and_gives_back_the_rest(rig: BrokerRig,
                                                                                      repaired: bool) -> None:
    known, unknown = rig.claimed(), rig.claimed()
    lose_states(rig)
    if repaired:
        mended(rig)
    assert sync_held_runs(rig, [(known, 4)]) == []
    assert (rig.state(known).status, rig.state(known).run, rig.state(known).owner) == (TaskStatus.RUNNING, 4, "sup")
    assert claimable(rig) == {unknown}
    assert rig.client.smembers(rig.keys.running("sup")) == {known.encode()}


@pytest.mark.parametrize(("options", "released", "failed"), [({}, 1, 0), ({"max_deliveries": 1}, 0, 1)])
def test_a_run_whose_supervisor_is_gone_too(rig: BrokerRig, options: Any, released: int, failed: int) -> None:
    task_id = rig.claimed(**options)
    lose_states(rig)
    rig.keeper.expire_lease("sup")
    report = rig.keeper.rescue("sup", 10)
    assert (report.released, report.failed, report.is_over) == (released, failed, True)
    assert claimable(rig) == ({task_id} if released else set())


def test_what_was_moved_to_another_priority_stays_there(rig: BrokerRig) -> None:
    task_id = rig.submit()
    rig.broker.set_priority(task_id, TaskPriority.HIGH)
    lose_states(rig)
    assert mended(rig) == {"state": 1}
    assert place_of(rig, task_id) == {"lane:q:HIGH"}
    assert (rig.state(task_id).status, rig.state(task_id).priority) == (TaskStatus.QUEUED, TaskPriority.HIGH)


@pytest.mark.parametrize(("cause", "status"), [
    ("returned", TaskStatus.COMPLETED), ("cancelled", TaskStatus.CANCELLED), ("timeout", TaskStatus.TIMEOUT),
    ("raised", TaskStatus.FAILED), ("lease_lost", TaskStatus.FAILED)])
def test_what_is_in_no_set_and_has_an_outcome_ends_as_that_says(rig: BrokerRig, caplog: pytest.LogCaptureFixture,
                                                                cause: str, status: TaskStatus) -> None:
    task_id = rig.ended(TaskStatus.COMPLETED)
    rig.client.hset(rig.keys.outcomes, f"{task_id}:75", b'{"run":75,"cause":"%b"}' % cause.encode())
    rig.client.hset(rig.keys.outcomes, f"{task_id}:40", b'{"run":40,"cause":"raised"}')
    rig.client.delete(rig.keys.ended("COMPLETED"))
    lose_states(rig)
    with caplog.at_level(logging.ERROR, "ganger.errors"):
        assert mended(rig) == {"unknown": 1}
    assert [told.task_id for told in caplog.records if hasattr(told, "task_id")] == [task_id]
    assert (rig.state(task_id).status, rig.state(task_id).run) == (status, 75)
    assert place_of(rig, task_id) == {f"ended:{status}"}
    assert claimable(rig) == set()


@pytest.mark.parametrize("sign", ["progress", "rescues", "cancel_requests", "log"])
def test_what_has_run_and_nobody_knows_how_it_ended_is_not_run_again(rig: BrokerRig, sign: str) -> None:
    task_id = rig.claimed()
    rig.client.delete(rig.keys.running("sup"))
    if sign == "log":
        rig.client.rpush(rig.keys.log(task_id), "{}")
    else:
        rig.client.hset(getattr(rig.keys, sign), task_id, "1 x")
    lose_states(rig)
    assert mended(rig) == {"unknown": 1}
    stored = rig.broker.read([task_id])[0]
    assert (stored.state.status, stored.outcome["cause"]) == (TaskStatus.FAILED, "lease_lost")
    assert claimable(rig) == set()


def test_what_has_never_run_and_is_in_no_line_is_queued(rig: BrokerRig) -> None:
    task_id = rig.submit()
    rig.client.delete(rig.keys.lane("q", TaskPriority.NORMAL))
    lose_states(rig)
    assert mended(rig) == {"line": 1}
    assert claimable(rig) == {task_id}


def test_people_find_the_state_again_before_they_change_anything(rig: BrokerRig) -> None:
    ended = [rig.ended(TaskStatus.COMPLETED) for _ in range(3)]
    running = rig.claimed()
    lose_states(rig)
    with pytest.raises(MoveRefused):
        rig.broker.cancel(ended[0], "why")
    with pytest.raises(MoveRefused):
        rig.broker.set_priority(ended[1], TaskPriority.URGENT)
    with pytest.raises(MoveRefused):
        amend(rig.broker.redis, rig.keys, ended[2], {"name": "x"}, TaskPriority.URGENT, kept_ms=HOUR_MS)
    assert rig.broker.cancel(running, "why") is TaskStatus.RUNNING
    assert claimable(rig) == set()


def test_what_was_kept_long_enough_is_forgotten_and_what_waits_is_not(rig: BrokerRig) -> None:
    waiting, ended = rig.submit(), rig.ended(TaskStatus.COMPLETED, kept_ms=-1)
    rig.client.zadd(rig.keys.ended("COMPLETED"), {waiting: 1})
    lose_states(rig)
    assert rig.keeper.sweep(10)[0] == 2
    assert rig.broker.read([ended]) == [None]
    assert not rig.client.hlen(rig.keys.outcomes)
    assert claimable(rig) == {waiting}


def test_a_task_that_waits_is_not_touched(rig: BrokerRig) -> None:
    plain, aside = rig.submit(), rig.submit(task_type="other")
    Supervisor(rig, "old", types=("x",)).claim(5)
    assert place_of(rig, plain) == {"lane:q:NORMAL:t"}
    rig.unchanged(lambda: rig.keeper._readable([plain, aside]))


def test_a_run_that_begins_after_its_task_was_given_back_is_fenced_as_any_other(rig: BrokerRig) -> None:
    supervisor, task_id = Supervisor(rig), rig.submit()
    assert supervisor.claim(1) == [task_id]
    lose_states(rig)
    sync_held_runs(rig, [])
    assert supervisor.step(want=1)[1] == [(task_id, "2 0 0 1")]
    assert supervisor.end(task_id, "fail attempt", run=1) == [1, "STALE"]
    assert supervisor.end(task_id, "fail attempt", run=2) == []
