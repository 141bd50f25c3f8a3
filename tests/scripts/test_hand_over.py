"""A task that comes alone goes straight to a supervisor that sleeps with a worker that has nothing to do."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from engine.core.task.event import events
from engine.core.task.lifecycle import TaskStatus
from engine.core.task.priority import TaskPriority
from tests.scripts.shop import Shop, messages
from tests.scripts.test_step import Supervisor


@pytest.fixture
def supervisor(shop: Shop) -> Supervisor:
    supervisor = Supervisor(shop)
    supervisor.step(want=8, idle=2)
    return supervisor


@pytest.fixture
def heard(shop: Shop) -> Iterator[Any]:
    heard = shop.hearing(shop.keys.base + "wakeup:sup", shop.keys.base + "wakeup:free")
    yield heard
    heard.close()


def test_it_is_claimed_and_goes_with_the_bell(shop: Shop, supervisor: Supervisor, heard: Any) -> None:
    task = shop.new(priority=TaskPriority.HIGH)
    assert shop.broker.submit([task]) == [task.id]
    assert messages(heard, 1) == [b"=" + task.id.encode() + b"q " + task.record.encode()]
    state = shop.state(task.id)
    assert (state.status, state.run, state.owner, state.priority) == (TaskStatus.RUNNING, 1, "sup", TaskPriority.HIGH)
    state = shop.dump()
    assert state[shop.keys.running("sup")] == {task.id.encode()}
    assert shop.keys.lane("q", TaskPriority.HIGH) not in state
    assert state[shop.keys.idle_supervisors][b"sup"].split()[:2] == [b"*", b"1"]
    assert (state[shop.keys.counters][b"submitted"], state[shop.keys.counters][b"runs"]) == (b"1", b"1")
    rows = [row for _, entry in shop.client.xrange(shop.keys.events) for row in events(entry[b"e"])]
    assert rows == [(task.id, TaskStatus.QUEUED, 0), (task.id, TaskStatus.RUNNING, 1)]
    assert supervisor.end(task.id, "complete nobody") == []


def test_it_keeps_the_place_it_would_have_had(shop: Shop, supervisor: Supervisor, heard: Any) -> None:
    handed = [shop.submit(), shop.submit()]
    queued = shop.submit()
    assert [shop.state(task_id).rank for task_id in handed] == [1, 2]
    assert shop.client.zscore(shop.keys.lane("q", TaskPriority.NORMAL), queued) == 3
    late = shop.submit(fair_key="late")
    assert shop.client.zscore(shop.keys.lane("q", TaskPriority.NORMAL), late) == 3, "as any flow that was away"


def test_as_many_as_there_are_idle_workers(shop: Shop, supervisor: Supervisor, heard: Any) -> None:
    for _ in range(3):
        shop.submit()
    assert [message[:1] for message in messages(heard, 3)] == [b"=", b"=", b"q"]
    assert shop.keys.idle_supervisors not in shop.dump(), "the third has woken it"


def test_the_supervisor_with_the_most_idle_workers_takes_it(shop: Shop, supervisor: Supervisor, heard: Any) -> None:
    Supervisor(shop, "free").step(want=8, idle=3)
    owners = [shop.state(shop.submit()).owner for _ in range(3)]
    assert owners[0] == "free"
    assert set(owners) == {"free", "sup"}


def paused(shop: Shop, supervisor: Supervisor) -> None:
    shop.client.hset(shop.keys.queues, "q", "paused")


def not_its_queue(shop: Shop, supervisor: Supervisor) -> None:
    supervisor.step(want=8, idle=2, serves=",x,y,")


def silent(shop: Shop, supervisor: Supervisor) -> None:
    supervisor.clock_ms -= 3_600
    supervisor.step(want=8, idle=2)


def nothing_is_wanted(shop: Shop, supervisor: Supervisor) -> None:
    supervisor.step(want=0, idle=2)


def woken(shop: Shop, supervisor: Supervisor) -> None:
    shop.submit(fair_key="a")


@pytest.mark.parametrize("make", [paused, not_its_queue, silent, nothing_is_wanted, woken],
                         ids=lambda make: make.__name__)
def test_into_the_line_it_goes_where(make: Callable[[Shop, Supervisor], None], shop: Shop,
                                     supervisor: Supervisor, heard: Any) -> None:
    make(shop, supervisor)
    task_id = shop.submit()
    assert shop.client.zscore(shop.keys.lane("q", TaskPriority.NORMAL), task_id)
    assert not shop.client.exists(shop.keys.running("sup"))


def test_a_supervisor_that_does_not_listen_is_passed_over(shop: Shop, supervisor: Supervisor) -> None:
    task_id = shop.submit()
    assert shop.state(task_id).status is TaskStatus.QUEUED
    assert shop.keys.idle_supervisors not in shop.dump()


def test_what_is_under_way_to_the_supervisor_counts_as_claimed(shop: Shop, supervisor: Supervisor, heard: Any) -> None:
    shop.submit()
    for _ in range(3):
        shop.submit(fair_key="a")
    assert len(supervisor.step(want=2, idle=2, held=0)[1]) == 1
    assert len(supervisor.step(want=2, idle=2, held=2)[1]) == 2


def test_the_same_submit_again_is_known(shop: Shop, supervisor: Supervisor, heard: Any) -> None:
    task = shop.new()
    shop.broker.submit([task])
    shop.unchanged(lambda: shop.broker.submit([task]))
