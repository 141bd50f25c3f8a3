"""Brokers and links that follow the master: through a failover of Sentinels, and of a Cluster's node."""

import time
from collections.abc import Iterator

import pytest

from engine.adapters.clock import RedisClock
from engine.adapters.poller import EpollPoller
from engine.adapters.redis.tasks.broker import RedisClientBroker
from engine.adapters.redis.wire.addresses import SLOT
from engine.adapters.redis.wire.supervisor_link import Answered, Connected, SupervisorLink
from engine.core.task.lifecycle import TaskStatus
from engine.core.task.priority import TaskPriority
from engine.core.task.record import Record
from engine.core.task.task_id import task_ids
from engine.errors import BrokerError, BrokerUnavailable, InvalidSetting
from engine.ports.client_broker import Submission
from tests.hosts.servers import Cluster, Sentinels, until

COUNT = iter(range(1, 1_000_000))


def new() -> Submission:
    return Submission(next(task_ids(1_700_000_000_000, next(COUNT))), Record("t", "q", TaskPriority.NORMAL, 1, b"{}"))


class Linked:
    """A link as a supervisor has one, turned by hand."""

    def __init__(self, url: str) -> None:
        self.poller = EpollPoller()
        self.link = SupervisorLink(url, "ganger:{0}:wakeup:sup", RedisClock(), self.poller, timeout_s=2.0)

    def _turn(self) -> list[object]:
        self.link.tick(time.monotonic())
        self.poller.wait(0.05)
        return list(self.link.events())

    def connect(self) -> None:
        if not self.link.up:
            until(lambda: any(isinstance(event, Connected) for event in self._turn()))

    def write(self) -> bool:
        """Whether a write went through within a moment."""
        self.connect()
        self.link.send("tag", "HINCRBY", "ganger:{0}:counters", "written", 1)
        events: list[object] = []
        until(lambda: events.extend(self._turn()) or events)
        return any(isinstance(event, Answered) and isinstance(event.reply, int) for event in events)


def check_that_it_follows(url: str, *changes: object) -> None:
    """Write, change the master, write again: by a broker and by a link that were there before."""
    broker, linked = RedisClientBroker(url, timeout_s=2.0), Linked(url)
    try:
        ids = broker.submit([new()])
        assert broker.cancel(ids[0], "why") is TaskStatus.CANCELLED
        assert linked.write()
        for change in changes:
            assert callable(change)
            change()
            task = new()
            until(lambda task=task: submitted(broker, task))
            assert broker.read([task.id])[0] is not None
            until(linked.write)
    finally:
        linked.link.close()
        broker.close()


def submitted(broker: RedisClientBroker, task: Submission) -> bool:
    try:
        return broker.submit([task]) == [task.id]
    except BrokerUnavailable:
        return False


@pytest.fixture
def sentinels() -> Iterator[Sentinels]:
    made = Sentinels()
    yield made
    made.stop()


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    made = Cluster(SLOT)
    yield made
    made.stop()


def test_the_master_that_sentinels_name_is_followed(sentinels: Sentinels) -> None:
    check_that_it_follows(sentinels.url, sentinels.fail_over)


def test_the_node_of_a_cluster_that_has_our_keys_is_followed(cluster: Cluster) -> None:
    check_that_it_follows(cluster.url, cluster.hand_over)
    plain = RedisClientBroker(f"redis://127.0.0.1:{cluster.nodes[0].port}")
    with pytest.raises(BrokerError, match=r"name it as redis\+cluster://"):
        plain.submit([new()])


@pytest.mark.parametrize(("url", "words"), [
    ("redis+sentinel://127.0.0.1:1,127.0.0.1:2/m", "nobody knows where the master is"),
    ("redis+cluster://127.0.0.1:1", "nobody knows where the master is")])
def test_nobody_to_ask(url: str, words: str) -> None:
    with pytest.raises(BrokerUnavailable, match=words):
        RedisClientBroker(url, timeout_s=1.0).ping()


@pytest.mark.parametrize("url", ["redis+sentinel://host:x/m", "redis+cluster://:99999999", "redis+cluster://a,,b",
                                 "redis+sentinel://h/m?colour=red"])
def test_a_url_that_makes_no_sense(url: str) -> None:
    with pytest.raises(InvalidSetting):
        RedisClientBroker(url)
