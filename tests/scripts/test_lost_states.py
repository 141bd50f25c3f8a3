"""The stored states of all tasks are deleted: nothing that has ended runs again, and everything else goes on."""

import logging
from typing import Any

import pytest

from engine.adapters.redis.tasks.amend import amend
from engine.core.task.lifecycle import TaskStatus
from engine.core.task.priority import TaskPriority
from engine.errors import MoveRefused
from tests.scripts.shop import HOUR_MS, Shop, messages
from tests.scripts.test_mend import place_of
from tests.scripts.test_operating import stands
from tests.scripts.test_refusals import reconcile_all, sync_held_runs
from tests.scripts.test_step import Supervisor

ENDS = (TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED, TaskStatus.TIMEOUT)


def lose_states(shop: Shop) -> None:
    shop.client.delete(shop.keys.states)


def mended(shop: Shop) -> dict[str, int]:
    return {what: times for what, times in reconcile_all(shop).items() if what != "flows"}


def claimable(shop: Shop) -> set[str]:
    found = set()
    while got := Supervisor(shop, "probe").claim(50):
        found |= set(got)
    return found


@pytest.mark.parametrize("status", ENDS)
def test_what_has_ended_has_ended_again_with_its_outcome(shop: Shop, status: TaskStatus) -> None:
    waiting, ended = shop.submit(), shop.ended(status, max_deliveries=1)
    shop.client.hset(shop.keys.waiters, ended, ",me")
    lose_states(shop)
    with shop.hearing(shop.keys.done("me")) as heard:
        assert mended(shop) == {"state": 1}
        assert messages(heard, 1) == [ended.encode()]
    stored = shop.broker.read([ended])[0]
    assert (stored.state.status, stored.state.run, stored.outcome["run"]) == (status, 1, 1)
    assert place_of(shop, ended) == {f"ended:{status}"}
    assert claimable(shop) == {waiting}
    assert not mended(shop)


def test_what_is_due_keeps_its_moment_and_its_runs(shop: Shop) -> None:
    pending, retrying = shop.pending(), shop.retrying()
    moments = shop.client.zrange(shop.keys.due, 0, -1, withscores=True)
    lose_states(shop)
    assert mended(shop) == {"state": 2}
    assert stands(shop.client.hget(shop.keys.states, pending)) == "PENDING 0 0 0 1 0 -"
    assert stands(shop.client.hget(shop.keys.states, retrying)) == "RETRYING 1 0 0 1 0 -"
    assert shop.client.zrange(shop.keys.due, 0, -1, withscores=True) == moments
    assert claimable(shop) == set()


def test_what_is_due_now_is_promoted_once_it_has_its_state(shop: Shop) -> None:
    first, later = shop.pending(), shop.pending()
    shop.client.zadd(shop.keys.due, {first: 1})
    shop.client.hdel(shop.keys.states, first)
    assert shop.keeper.promote(10)[0] == 1
    assert claimable(shop) == {first}
    assert shop.state(later).status is TaskStatus.PENDING


@pytest.mark.parametrize("repaired", [True, False])
@pytest.mark.parametrize("run", [1, 3])
def test_a_run_that_goes_on_can_end(shop: Shop, repaired: bool, run: int) -> None:
    supervisor, task_id = Supervisor(shop), shop.submit(priority=TaskPriority.HIGH)
    assert supervisor.claim(1) == [task_id]
    shop.set_life(task_id, TaskStatus.RUNNING, "sup", run=run)
    lose_states(shop)
    if repaired:
        assert mended(shop) == {"state": 1}
        assert (shop.state(task_id).status, shop.state(task_id).owner) == (TaskStatus.RUNNING, "sup")
        assert shop.state(task_id).priority is TaskPriority.HIGH
    assert supervisor.end(task_id, "complete nobody", run) == []
    assert (shop.state(task_id).status, shop.state(task_id).run) == (TaskStatus.COMPLETED, run)
    assert not mended(shop)
    assert claimable(shop) == set()


@pytest.mark.parametrize("verdict", ["retry attempt", "release nobody"])
def test_a_run_that_goes_on_can_be_run_again(shop: Shop, verdict: str) -> None:
    supervisor, task_id = Supervisor(shop), shop.submit()
    supervisor.claim(1)
    lose_states(shop)
    assert supervisor.end(task_id, verdict, at="q" if verdict.startswith("release") else 1) == []
    shop.keeper.promote(10)
    assert supervisor.step(want=1)[1][0][0] == task_id
    assert shop.state(task_id).run == 2


def test_another_supervisor_cannot_end_it(shop: Shop) -> None:
    task_id = shop.claimed(supervisor="other")
    lose_states(shop)
    assert Supervisor(shop).end(task_id, "complete nobody") == [1, "GONE"]


@pytest.mark.parametrize("repaired", [True, False])
def test_a_supervisor_that_connects_again_keeps_what_it_knows_and_gives_back_the_rest(shop: Shop,
                                                                                      repaired: bool) -> None:
    known, unknown = shop.claimed(), shop.claimed()
    lose_states(shop)
    if repaired:
        mended(shop)
    assert sync_held_runs(shop, [(known, 4)]) == []
    assert (shop.state(known).status, shop.state(known).run, shop.state(known).owner) == (TaskStatus.RUNNING, 4, "sup")
    assert claimable(shop) == {unknown}
    assert shop.client.smembers(shop.keys.running("sup")) == {known.encode()}


@pytest.mark.parametrize(("options", "released", "failed"), [({}, 1, 0), ({"max_deliveries": 1}, 0, 1)])
def test_a_run_whose_supervisor_is_gone_too(shop: Shop, options: Any, released: int, failed: int) -> None:
    task_id = shop.claimed(**options)
    lose_states(shop)
    shop.keeper.expire_lease("sup")
    report = shop.keeper.rescue("sup", 10)
    assert (report.released, report.failed, report.is_over) == (released, failed, True)
    assert claimable(shop) == ({task_id} if released else set())


def test_what_was_moved_to_another_priority_stays_there(shop: Shop) -> None:
    task_id = shop.submit()
    shop.broker.set_priority(task_id, TaskPriority.HIGH)
    lose_states(shop)
    assert mended(shop) == {"state": 1}
    assert place_of(shop, task_id) == {"lane:q:HIGH"}
    assert (shop.state(task_id).status, shop.state(task_id).priority) == (TaskStatus.QUEUED, TaskPriority.HIGH)


@pytest.mark.parametrize(("cause", "status"), [
    ("returned", TaskStatus.COMPLETED), ("cancelled", TaskStatus.CANCELLED), ("timeout", TaskStatus.TIMEOUT),
    ("raised", TaskStatus.FAILED), ("lease_lost", TaskStatus.FAILED)])
def test_what_is_in_no_set_and_has_an_outcome_ends_as_that_says(shop: Shop, caplog: pytest.LogCaptureFixture,
                                                                cause: str, status: TaskStatus) -> None:
    task_id = shop.ended(TaskStatus.COMPLETED)
    shop.client.hset(shop.keys.outcomes, f"{task_id}:75", b'{"run":75,"cause":"%b"}' % cause.encode())
    shop.client.hset(shop.keys.outcomes, f"{task_id}:40", b'{"run":40,"cause":"raised"}')
    shop.client.delete(shop.keys.ended("COMPLETED"))
    lose_states(shop)
    with caplog.at_level(logging.ERROR, "ganger.errors"):
        assert mended(shop) == {"unknown": 1}
    assert [told.task_id for told in caplog.records if hasattr(told, "task_id")] == [task_id]
    assert (shop.state(task_id).status, shop.state(task_id).run) == (status, 75)
    assert place_of(shop, task_id) == {f"ended:{status}"}
    assert claimable(shop) == set()


@pytest.mark.parametrize("sign", ["progress", "rescues", "cancel_requests", "log"])
def test_what_has_run_and_nobody_knows_how_it_ended_is_not_run_again(shop: Shop, sign: str) -> None:
    task_id = shop.claimed()
    shop.client.delete(shop.keys.running("sup"))
    if sign == "log":
        shop.client.rpush(shop.keys.log(task_id), "{}")
    else:
        shop.client.hset(getattr(shop.keys, sign), task_id, "1 x")
    lose_states(shop)
    assert mended(shop) == {"unknown": 1}
    stored = shop.broker.read([task_id])[0]
    assert (stored.state.status, stored.outcome["cause"]) == (TaskStatus.FAILED, "lease_lost")
    assert claimable(shop) == set()


def test_what_has_never_run_and_is_in_no_line_is_queued(shop: Shop) -> None:
    task_id = shop.submit()
    shop.client.delete(shop.keys.lane("q", TaskPriority.NORMAL))
    lose_states(shop)
    assert mended(shop) == {"line": 1}
    assert claimable(shop) == {task_id}


def test_people_find_the_state_again_before_they_change_anything(shop: Shop) -> None:
    ended = [shop.ended(TaskStatus.COMPLETED) for _ in range(3)]
    running = shop.claimed()
    lose_states(shop)
    with pytest.raises(MoveRefused):
        shop.broker.cancel(ended[0], "why")
    with pytest.raises(MoveRefused):
        shop.broker.set_priority(ended[1], TaskPriority.URGENT)
    with pytest.raises(MoveRefused):
        amend(shop.broker.redis, shop.keys, ended[2], {"name": "x"}, TaskPriority.URGENT, kept_ms=HOUR_MS)
    assert shop.broker.cancel(running, "why") is TaskStatus.RUNNING
    assert claimable(shop) == set()


def test_what_was_kept_long_enough_is_forgotten_and_what_waits_is_not(shop: Shop) -> None:
    waiting, ended = shop.submit(), shop.ended(TaskStatus.COMPLETED, kept_ms=-1)
    shop.client.zadd(shop.keys.ended("COMPLETED"), {waiting: 1})
    lose_states(shop)
    assert shop.keeper.sweep(10)[0] == 2
    assert shop.broker.read([ended]) == [None]
    assert not shop.client.hlen(shop.keys.outcomes)
    assert claimable(shop) == {waiting}


def test_a_task_that_waits_is_not_touched(shop: Shop) -> None:
    plain, aside = shop.submit(), shop.submit(task_type="other")
    Supervisor(shop, "old", types=("x",)).claim(5)
    assert place_of(shop, plain) == {"lane:q:NORMAL:t"}
    shop.unchanged(lambda: shop.keeper._readable([plain, aside]))


def test_a_run_that_begins_after_its_task_was_given_back_is_fenced_as_any_other(shop: Shop) -> None:
    supervisor, task_id = Supervisor(shop), shop.submit()
    assert supervisor.claim(1) == [task_id]
    lose_states(shop)
    sync_held_runs(shop, [])
    assert supervisor.step(want=1)[1] == [(task_id, "2 0 0 1")]
    assert supervisor.end(task_id, "fail attempt", run=1) == [1, "STALE"]
    assert supervisor.end(task_id, "fail attempt", run=2) == []
