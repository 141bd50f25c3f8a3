"""A supervisor's side of Redis on a real one: what comes in which order, and what is told again."""

import time
from collections.abc import Callable, Iterator

import pytest

from engine.adapters.clock import RedisClock
from engine.adapters.poller import EpollPoller
from engine.adapters.redis.pool.supervisor_broker import RedisSupervisorBroker, Terms
from engine.adapters.redis.wire import scripts
from engine.core.pool.actions import Preempt
from engine.core.task.lifecycle import TaskStatus
from engine.core.task.priority import TaskPriority
from engine.ports.supervisor_broker import (
    BrokerEvent,
    HeldRunsSynced,
    Joined,
    RegistrationRefused,
    Stepped,
    Waited,
    Woken,
)
from tests.redis_server import RedisServer
from tests.scripts.broker_rig import BrokerRig

WAIT_S = 10.0


class Side:
    """The broker of one supervisor, and what it has said."""

    def __init__(self, server: RedisServer, rig: BrokerRig) -> None:
        self.poller = EpollPoller()
        self.broker = RedisSupervisorBroker(
            server.url, rig.keys, Terms("sup", ("q",), 15.0, 30.0, 60.0, 60.0), RedisClock(), self.poller)
        self.heard: list[BrokerEvent] = []

    def until(self, has_come: Callable[[list[BrokerEvent]], bool]) -> None:
        end_s = time.monotonic() + WAIT_S
        while not has_come(self.heard):
            assert time.monotonic() < end_s, self.heard
            self.broker.tick(time.monotonic())
            self.poller.wait(0.1)
            self.heard += self.broker.events()

    def kinds(self) -> list[type[BrokerEvent]]:
        return [type(event) for event in self.heard]


@pytest.fixture
def rig(redis_server: RedisServer) -> Iterator[BrokerRig]:
    rig = BrokerRig(redis_server)
    yield rig
    rig.close()


@pytest.fixture
def side(redis_server: RedisServer, rig: BrokerRig) -> Iterator[Side]:
    side = Side(redis_server, rig)
    side.until(lambda heard: any(isinstance(event, Joined) for event in heard))
    side.broker.register([{"name": "t"}])
    side.until(lambda heard: any(isinstance(event, Woken) for event in heard))
    side.heard.clear()
    yield side
    side.broker.close()
    side.poller.close()


def test_what_a_step_claims_is_not_given_back_by_a_recover_that_was_sent_before(side: Side, rig: BrokerRig) -> None:
    """Redis knows the one script and has forgotten the other, so that what was sent first may have to be sent again."""
    task_id = rig.submit()
    rig.client.script_flush()
    rig.client.script_load(scripts.source("step"))
    side.broker.sync_held_runs([])
    side.broker.step([], 1, 0, 0, b"")
    side.until(lambda heard: len(heard) == 2)
    assert side.kinds() == [HeldRunsSynced, Stepped]
    assert rig.state(task_id).status is TaskStatus.RUNNING


def test_what_it_can_run_is_heard_by_a_redis_that_is_full(side: Side, rig: BrokerRig) -> None:
    rig.client.config_set("maxmemory", 1)
    try:
        side.broker.register([{"name": "a"}, {"name": "b"}])
        side.broker.sync_held_runs([])
        side.until(lambda heard: len(heard) == 2)
    finally:
        rig.client.config_set("maxmemory", 0)
    assert side.kinds() == [Woken, HeldRunsSynced]
    assert rig.client.smembers(rig.keys.types("sup")) == {b"a", b"b"}
    assert set(rig.broker.handlers()) == {"t", "a", "b"}


def test_it_tells_when_redis_does_not_hear_what_it_can_run(side: Side, rig: BrokerRig) -> None:
    rig.client.set(rig.keys.announced, "of another kind")
    side.broker.register([{"name": "a"}])
    side.until(lambda heard: len(heard) == 1)
    assert side.kinds() == [RegistrationRefused]


def test_one_that_preempts_is_woken_for_what_is_urgent_and_claims_nothing_else(side: Side, rig: BrokerRig) -> None:
    rig.submit(priority=TaskPriority.HIGH)
    side.broker.step([], 1, 0, 0, b"", Preempt.NOW)
    side.until(lambda heard: len(heard) == 1)
    urgent = rig.submit(priority=TaskPriority.URGENT)
    side.until(lambda heard: len(heard) == 2)
    side.broker.step([], 2, 0, 0, b"", Preempt.NOW)
    side.until(lambda heard: len(heard) == 3)
    before, rung, after = side.heard
    assert isinstance(before, Stepped)
    assert isinstance(rung, Woken)
    assert isinstance(after, Stepped)
    assert (before.claimed, after.claimed[0], after.granted_all) == ([], urgent.encode(), False)


def test_it_hears_for_how_long_the_heads_of_its_lines_wait(side: Side, rig: BrokerRig) -> None:
    side.broker.ask_waits()
    side.until(lambda heard: len(heard) == 1)
    assert side.heard == [Waited(0.0)]
    rig.submit("another")
    first = rig.submit()
    rig.submit()
    rig.client.zadd(rig.keys.lane("q", TaskPriority.LOW), {"none of ours": 0})
    side.broker.clock.calibrate(rig.now_ms + 60_000, time.monotonic(), time.monotonic())
    side.broker.ask_waits()
    side.until(lambda heard: len(heard) == 2)
    assert isinstance(side.heard[1], Waited)
    assert side.heard[1].wait_s == pytest.approx(60, abs=10)
    rig.set_life(first, TaskStatus.QUEUED, at_ms=rig.now_ms + 60_000)  # it came back into the line just now
    side.broker.ask_waits()
    side.until(lambda heard: len(heard) == 3)
    assert isinstance(side.heard[2], Waited)
    assert side.heard[2].wait_s < 30
