"""A supervisor whose workers are all busy hears of URGENT tasks, and of nothing else, if it would make way for them."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from engine.core.task.lifecycle import TaskStatus
from engine.core.task.priority import TaskPriority
from tests.scripts.broker_rig import BrokerRig, messages
from tests.scripts.test_step import Supervisor

URGENT, HIGH, LOW = TaskPriority.URGENT, TaskPriority.HIGH, TaskPriority.LOW


@pytest.fixture
def busy(rig: BrokerRig) -> Supervisor:
    """It claimed as much as it wanted, and makes way since then."""
    rig.submit(priority=LOW)
    supervisor = Supervisor(rig)
    assert len(supervisor.step(want=1, preempts="+")[1]) == 1
    return supervisor


@pytest.fixture
def heard(rig: BrokerRig) -> Iterator[Any]:
    heard = rig.hearing(rig.keys.base + "wakeup:sup", rig.keys.base + "wakeup:free")
    yield heard
    heard.close()


def silent(heard: Any) -> bool:
    return heard.get_message(timeout=0.05) is None


def test_it_is_noted_beside_those_that_sleep(rig: BrokerRig, busy: Supervisor) -> None:
    assert rig.dump()[rig.keys.idle_supervisors] == {b"sup": b"!*"}


def test_one_that_never_preempts_is_not_noted_when_it_is_busy(rig: BrokerRig) -> None:
    rig.submit()
    Supervisor(rig).step(want=1)
    assert rig.keys.idle_supervisors not in rig.dump()


def test_what_is_not_urgent_does_not_wake_it(rig: BrokerRig, busy: Supervisor, heard: Any) -> None:
    rig.submit(priority=HIGH)
    assert silent(heard)
    assert rig.dump()[rig.keys.idle_supervisors] == {b"sup": b"!*"}


def test_an_urgent_task_wakes_it_once_and_stays_in_its_line(rig: BrokerRig, busy: Supervisor, heard: Any) -> None:
    task_id = rig.submit(priority=URGENT)
    assert messages(heard, 1) == [b"q"]
    assert rig.state(task_id).status is TaskStatus.QUEUED
    assert rig.keys.idle_supervisors not in rig.dump()


def test_who_has_a_free_worker_comes_first(rig: BrokerRig, busy: Supervisor, heard: Any) -> None:
    Supervisor(rig, "free").step(want=1, idle=0)
    rig.submit(priority=URGENT)
    assert [heard.get_message(timeout=5)["channel"] for _ in range(1)] == [rig.keys.base.encode() + b"wakeup:free"]
    assert rig.dump()[rig.keys.idle_supervisors] == {b"sup": b"!*"}


def test_it_claims_urgent_tasks_only(rig: BrokerRig, busy: Supervisor) -> None:
    for priority in (LOW, HIGH, TaskPriority.NORMAL):
        rig.submit(priority=priority)
    urgent = [rig.submit(priority=URGENT) for _ in range(2)]
    assert [task_id for task_id, _ in busy.step(want=1, preempts="!")[1]] == urgent[:1]
    assert rig.keys.idle_supervisors not in rig.dump(), "there may be more"
    assert [task_id for task_id, _ in busy.step(want=5, preempts="!")[1]] == urgent[1:]
    assert rig.dump()[rig.keys.idle_supervisors] == {b"sup": b"!*"}


def test_it_may_listen_without_having_room_yet(rig: BrokerRig, busy: Supervisor) -> None:
    rig.submit(priority=URGENT)
    assert busy.step(want=0, preempts="!")[1] == []
    assert rig.dump()[rig.keys.idle_supervisors] == {b"sup": b"!*"}


def test_it_stops_listening(rig: BrokerRig, busy: Supervisor) -> None:
    busy.step(want=0)
    assert rig.keys.idle_supervisors not in rig.dump()


def test_it_hears_of_its_own_queues_only(rig: BrokerRig, busy: Supervisor, heard: Any) -> None:
    busy.step(want=0, preempts="!", serves=",x,y,")
    rig.submit(priority=URGENT)
    assert silent(heard)
    rig.submit("y", priority=URGENT)
    assert messages(heard, 1) == [b"y"]


def test_an_urgent_line_that_was_passed_over_is_served_too(rig: BrokerRig) -> None:
    rig.submit(priority=LOW)
    supervisor = Supervisor(rig, ageing_ms=1_000)
    supervisor.step(want=1, preempts="+")
    waiting, urgent = rig.submit(priority=LOW), rig.submit(priority=URGENT)
    supervisor.step(want=0, preempts="!")
    supervisor.clock_ms += 5_000
    assert [task_id for task_id, _ in supervisor.step(want=2, preempts="!")[1]] == [urgent]
    assert rig.state(waiting).status is TaskStatus.QUEUED


def test_not_all_are_called_for_one_task(rig: BrokerRig) -> None:
    heard = rig.hearing(*(f"{rig.keys.base}wakeup:{n}" for n in range(9)))
    for n in range(9):
        Supervisor(rig, str(n)).step(want=0, preempts="!")
    rig.submit(priority=URGENT)
    assert messages(heard, 3) == [b"q"] * 3
    assert silent(heard)
    assert len(rig.dump()[rig.keys.idle_supervisors]) == 6
    heard.close()


def raised(rig: BrokerRig) -> None:
    rig.broker.set_priority(rig.submit(), URGENT)


def opened(rig: BrokerRig) -> None:
    rig.client.hset(rig.keys.queues, "q", "paused")
    rig.client.zadd(rig.keys.lane("q", URGENT), {"x" * 19: 1})
    rig.broker.resume("q")


def promoted(rig: BrokerRig) -> None:
    rig.client.zadd(rig.keys.due, {rig.pending(priority=URGENT): 1})
    rig.keeper.promote(10)


def revived(rig: BrokerRig) -> None:
    rig.broker.requeue(rig.ended(priority=URGENT))


def with_options(rig: BrokerRig) -> None:
    rig.submit(priority=URGENT, fair_key="k")


def released(rig: BrokerRig) -> None:
    task_id = rig.claimed(priority=URGENT, supervisor="other")
    Supervisor(rig, "other").end(task_id, "release nobody", at="q", outcome=b"")


@pytest.mark.parametrize("comes", [raised, opened, promoted, revived, with_options, released])
def test_whatever_brings_an_urgent_task_wakes_it(rig: BrokerRig, comes: Callable[[BrokerRig], None]) -> None:
    heard = rig.hearing(rig.keys.base + "wakeup:sup")
    Supervisor(rig).step(want=0, preempts="!")
    comes(rig)
    assert messages(heard, 1) == [b"q"]
    assert rig.keys.idle_supervisors not in rig.dump()
    heard.close()


def test_the_priority_of_a_later_run_comes_with_it(rig: BrokerRig) -> None:
    task_id = rig.submit(priority=LOW)
    rig.broker.set_priority(task_id, HIGH)
    assert Supervisor(rig).step(want=1)[1] == [(task_id, "1 0 0 2")]


def test_since_when_the_heads_of_the_lines_wait(rig: BrokerRig) -> None:
    first = rig.submit(priority=LOW)
    rig.submit(priority=LOW)
    rig.submit("paused", priority=LOW)
    rig.broker.pause("paused")
    raised = rig.submit(priority=HIGH)
    rig.broker.set_priority(raised, URGENT)
    told = rig.call("get_lane_waits", supervisor="sup", serves="*")
    assert told == [raised.encode(), b"%d" % rig.state(raised).at_ms, first.encode(), b""]
