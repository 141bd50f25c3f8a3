"""A task that comes alone goes straight to a supervisor that sleeps with a worker that has nothing to do."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from engine.core.task.event import events
from engine.core.task.lifecycle import TaskStatus
from engine.core.task.priority import TaskPriority
from tests.scripts.broker_rig import BrokerRig, messages
from tests.scripts.test_step import Supervisor


@pytest.fixture
def supervisor(rig: BrokerRig) -> Supervisor:
    supervisor = Supervisor(rig)
    supervisor.step(want=8, idle=2)
    return supervisor


@pytest.fixture
def heard(rig: BrokerRig) -> Iterator[Any]:
    heard = rig.hearing(rig.keys.base + "wakeup:sup", rig.keys.base + "wakeup:free")
    yield heard
    heard.close()


def test_it_is_claimed_and_goes_with_the_bell(rig: BrokerRig, supervisor: Supervisor, heard: Any) -> None:
    task = rig.new(priority=TaskPriority.HIGH)
    assert rig.broker.submit([task]) == [task.id]
    assert messages(heard, 1) == [b"=" + task.id.encode() + b"q " + task.record.encode()]
    state = rig.state(task.id)
    assert (state.status, state.run, state.owner, state.priority) == (TaskStatus.RUNNING, 1, "sup", TaskPriority.HIGH)
    state = rig.dump()
    assert state[rig.keys.running("sup")] == {task.id.encode()}
    assert rig.keys.lane("q", TaskPriority.HIGH) not in state
    assert state[rig.keys.idle_supervisors][b"sup"].split()[:2] == [b"*", b"1"]
    assert (state[rig.keys.counters][b"submitted"], state[rig.keys.counters][b"runs"]) == (b"1", b"1")
    rows = [row for _, entry in rig.client.xrange(rig.keys.events) for row in events(entry[b"e"])]
    assert rows == [(task.id, TaskStatus.QUEUED, 0), (task.id, TaskStatus.RUNNING, 1)]
    assert supervisor.end(task.id, "complete nobody") == []


def test_it_keeps_the_place_it_would_have_had(rig: BrokerRig, supervisor: Supervisor, heard: Any) -> None:
    handed = [rig.submit(), rig.submit()]
    queued = rig.submit()
    assert [rig.state(task_id).rank for task_id in handed] == [1, 2]
    assert rig.client.zscore(rig.keys.lane("q", TaskPriority.NORMAL), queued) == 3
    late = rig.submit(fair_key="late")
    assert rig.client.zscore(rig.keys.lane("q", TaskPriority.NORMAL), late) == 3, "as any flow that was away"


def test_as_many_as_there_are_idle_workers(rig: BrokerRig, supervisor: Supervisor, heard: Any) -> None:
    for _ in range(3):
        rig.submit()
    assert [message[:1] for message in messages(heard, 3)] == [b"=", b"=", b"q"]
    assert rig.keys.idle_supervisors not in rig.dump(), "the third has woken it"


def test_the_supervisor_with_the_most_idle_workers_takes_it(rig: BrokerRig, supervisor: Supervisor, heard: Any) -> None:
    Supervisor(rig, "free").step(want=8, idle=3)
    owners = [rig.state(rig.submit()).owner for _ in range(3)]
    assert owners[0] == "free"
    assert set(owners) == {"free", "sup"}


def paused(rig: BrokerRig, supervisor: Supervisor) -> None:
    rig.client.hset(rig.keys.queues, "q", "paused")


def not_its_queue(rig: BrokerRig, supervisor: Supervisor) -> None:
    supervisor.step(want=8, idle=2, serves=",x,y,")


def silent(rig: BrokerRig, supervisor: Supervisor) -> None:
    supervisor.clock_ms -= 3_600
    supervisor.step(want=8, idle=2)


def nothing_is_wanted(rig: BrokerRig, supervisor: Supervisor) -> None:
    supervisor.step(want=0, idle=2)


def woken(rig: BrokerRig, supervisor: Supervisor) -> None:
    rig.submit(fair_key="a")


@pytest.mark.parametrize("make", [paused, not_its_queue, silent, nothing_is_wanted, woken],
                         ids=lambda make: make.__name__)
def test_into_the_line_it_goes_where(make: Callable[[BrokerRig, Supervisor], None], rig: BrokerRig,
                                     supervisor: Supervisor, heard: Any) -> None:
    make(rig, supervisor)
    task_id = rig.submit()
    assert rig.client.zscore(rig.keys.lane("q", TaskPriority.NORMAL), task_id)
    assert not rig.client.exists(rig.keys.running("sup"))


def test_a_supervisor_that_does_not_listen_is_passed_over(rig: BrokerRig, supervisor: Supervisor) -> None:
    task_id = rig.submit()
    assert rig.state(task_id).status is TaskStatus.QUEUED
    assert rig.keys.idle_supervisors not in rig.dump()


def test_what_is_under_way_to_the_supervisor_counts_as_claimed(
        rig: BrokerRig, supervisor: Supervisor, heard: Any) -> None:
    rig.submit()
    for _ in range(3):
        rig.submit(fair_key="a")
    assert len(supervisor.step(want=2, idle=2, held=0)[1]) == 1
    assert len(supervisor.step(want=2, idle=2, held=2)[1]) == 2


def test_the_same_submit_again_is_known(rig: BrokerRig, supervisor: Supervisor, heard: Any) -> None:
    task = rig.new()
    rig.broker.submit([task])
    rig.unchanged(lambda: rig.broker.submit([task]))
