"""A supervisor whose workers are all busy hears of URGENT tasks, and of nothing else, if it would make way for them."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from engine.core.task.lifecycle import TaskStatus
from engine.core.task.priority import TaskPriority
from tests.scripts.shop import Shop, messages
from tests.scripts.test_step import Supervisor

URGENT, HIGH, LOW = TaskPriority.URGENT, TaskPriority.HIGH, TaskPriority.LOW


@pytest.fixture
def busy(shop: Shop) -> Supervisor:
    """It claimed as much as it wanted, and makes way since then."""
    shop.submit(priority=LOW)
    supervisor = Supervisor(shop)
    assert len(supervisor.step(want=1, preempts="+")[1]) == 1
    return supervisor


@pytest.fixture
def heard(shop: Shop) -> Iterator[Any]:
    heard = shop.hearing(shop.keys.base + "wakeup:sup", shop.keys.base + "wakeup:free")
    yield heard
    heard.close()


def silent(heard: Any) -> bool:
    return heard.get_message(timeout=0.05) is None


def test_it_is_noted_beside_those_that_sleep(shop: Shop, busy: Supervisor) -> None:
    assert shop.dump()[shop.keys.idle_supervisors] == {b"sup": b"!*"}


def test_one_that_never_preempts_is_not_noted_when_it_is_busy(shop: Shop) -> None:
    shop.submit()
    Supervisor(shop).step(want=1)
    assert shop.keys.idle_supervisors not in shop.dump()


def test_what_is_not_urgent_does_not_wake_it(shop: Shop, busy: Supervisor, heard: Any) -> None:
    shop.submit(priority=HIGH)
    assert silent(heard)
    assert shop.dump()[shop.keys.idle_supervisors] == {b"sup": b"!*"}


def test_an_urgent_task_wakes_it_once_and_stays_in_its_line(shop: Shop, busy: Supervisor, heard: Any) -> None:
    task_id = shop.submit(priority=URGENT)
    assert messages(heard, 1) == [b"q"]
    assert shop.state(task_id).status is TaskStatus.QUEUED
    assert shop.keys.idle_supervisors not in shop.dump()


def test_who_has_a_free_worker_comes_first(shop: Shop, busy: Supervisor, heard: Any) -> None:
    Supervisor(shop, "free").step(want=1, idle=0)
    shop.submit(priority=URGENT)
    assert [heard.get_message(timeout=5)["channel"] for _ in range(1)] == [shop.keys.base.encode() + b"wakeup:free"]
    assert shop.dump()[shop.keys.idle_supervisors] == {b"sup": b"!*"}


def test_it_claims_urgent_tasks_only(shop: Shop, busy: Supervisor) -> None:
    for priority in (LOW, HIGH, TaskPriority.NORMAL):
        shop.submit(priority=priority)
    urgent = [shop.submit(priority=URGENT) for _ in range(2)]
    assert [task_id for task_id, _ in busy.step(want=1, preempts="!")[1]] == urgent[:1]
    assert shop.keys.idle_supervisors not in shop.dump(), "there may be more"
    assert [task_id for task_id, _ in busy.step(want=5, preempts="!")[1]] == urgent[1:]
    assert shop.dump()[shop.keys.idle_supervisors] == {b"sup": b"!*"}


def test_it_may_listen_without_having_room_yet(shop: Shop, busy: Supervisor) -> None:
    shop.submit(priority=URGENT)
    assert busy.step(want=0, preempts="!")[1] == []
    assert shop.dump()[shop.keys.idle_supervisors] == {b"sup": b"!*"}


def test_it_stops_listening(shop: Shop, busy: Supervisor) -> None:
    busy.step(want=0)
    assert shop.keys.idle_supervisors not in shop.dump()


def test_it_hears_of_its_own_queues_only(shop: Shop, busy: Supervisor, heard: Any) -> None:
    busy.step(want=0, preempts="!", serves=",x,y,")
    shop.submit(priority=URGENT)
    assert silent(heard)
    shop.submit("y", priority=URGENT)
    assert messages(heard, 1) == [b"y"]


def test_an_urgent_line_that_was_passed_over_is_served_too(shop: Shop) -> None:
    shop.submit(priority=LOW)
    supervisor = Supervisor(shop, ageing_ms=1_000)
    supervisor.step(want=1, preempts="+")
    waiting, urgent = shop.submit(priority=LOW), shop.submit(priority=URGENT)
    supervisor.step(want=0, preempts="!")
    supervisor.clock_ms += 5_000
    assert [task_id for task_id, _ in supervisor.step(want=2, preempts="!")[1]] == [urgent]
    assert shop.state(waiting).status is TaskStatus.QUEUED


def test_not_all_are_called_for_one_task(shop: Shop) -> None:
    heard = shop.hearing(*(f"{shop.keys.base}wakeup:{n}" for n in range(9)))
    for n in range(9):
        Supervisor(shop, str(n)).step(want=0, preempts="!")
    shop.submit(priority=URGENT)
    assert messages(heard, 3) == [b"q"] * 3
    assert silent(heard)
    assert len(shop.dump()[shop.keys.idle_supervisors]) == 6
    heard.close()


def raised(shop: Shop) -> None:
    shop.broker.set_priority(shop.submit(), URGENT)


def opened(shop: Shop) -> None:
    shop.client.hset(shop.keys.queues, "q", "paused")
    shop.client.zadd(shop.keys.lane("q", URGENT), {"x" * 19: 1})
    shop.broker.resume("q")


def promoted(shop: Shop) -> None:
    shop.client.zadd(shop.keys.due, {shop.pending(priority=URGENT): 1})
    shop.keeper.promote(10)


def revived(shop: Shop) -> None:
    shop.broker.requeue(shop.ended(priority=URGENT))


def with_options(shop: Shop) -> None:
    shop.submit(priority=URGENT, fair_key="k")


def released(shop: Shop) -> None:
    task_id = shop.claimed(priority=URGENT, supervisor="other")
    Supervisor(shop, "other").end(task_id, "release nobody", at="q", outcome=b"")


@pytest.mark.parametrize("comes", [raised, opened, promoted, revived, with_options, released])
def test_whatever_brings_an_urgent_task_wakes_it(shop: Shop, comes: Callable[[Shop], None]) -> None:
    heard = shop.hearing(shop.keys.base + "wakeup:sup")
    Supervisor(shop).step(want=0, preempts="!")
    comes(shop)
    assert messages(heard, 1) == [b"q"]
    assert shop.keys.idle_supervisors not in shop.dump()
    heard.close()


def test_the_priority_of_a_later_run_comes_with_it(shop: Shop) -> None:
    task_id = shop.submit(priority=LOW)
    shop.broker.set_priority(task_id, HIGH)
    assert Supervisor(shop).step(want=1)[1] == [(task_id, "1 0 0 2")]


def test_since_when_the_heads_of_the_lines_wait(shop: Shop) -> None:
    first = shop.submit(priority=LOW)
    shop.submit(priority=LOW)
    shop.submit("paused", priority=LOW)
    shop.broker.pause("paused")
    raised = shop.submit(priority=HIGH)
    shop.broker.set_priority(raised, URGENT)
    told = shop.call("get_lane_waits", supervisor="sup", serves="*")
    assert told == [raised.encode(), b"%d" % shop.state(raised).at_ms, first.encode(), b""]
