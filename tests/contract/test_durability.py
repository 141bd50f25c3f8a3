"""A submit that asks for fsync returns when the append-only file is on disk, or says that this Redis cannot."""

from collections.abc import Callable, Iterator

import pytest

from engine import Client, DurabilityUnavailable, InvalidOption
from engine.adapters.redis.tasks.broker import RedisClientBroker
from engine.errors import BrokerUnavailable
from tests.redis_server import RedisServer, binaries, version
from tests.scripts.broker_rig import BrokerRig

NEWEST = max(binaries(), key=version)
Start = Callable[..., BrokerRig]


@pytest.fixture
def start() -> Iterator[Start]:
    made: list[tuple[RedisServer, BrokerRig]] = []

    def starts(**options: str) -> BrokerRig:
        server = RedisServer(NEWEST, **options)
        made.append((server, BrokerRig(server)))
        return made[-1][1]

    yield starts
    for server, rig in made:
        rig.close()
        server.stop()


def durable(rig: BrokerRig) -> list[str]:
    return rig.broker.submit([rig.new()._replace(durability="fsync"), rig.new()])


def test_with_appendfsync_always_every_answer_is_on_disk(start: Start) -> None:
    rig = start(appendonly="yes", appendfsync="always")
    ids = durable(rig)
    assert [stored.id for stored in rig.broker.read(ids) if stored] == ids
    written = b"".join(path.read_bytes() for path in rig.folder.rglob("appendonly.aof*") if path.is_file())
    assert all(task_id.encode() in written for task_id in ids)


def submit_until_it_is_late(broker: RedisClientBroker, rig: BrokerRig) -> None:
    """Right behind an fsync the next one is a second away."""
    for _ in range(20):
        broker.submit([rig.new()._replace(durability="fsync")])


@pytest.mark.skipif(version(NEWEST) < (7, 2), reason="WAITAOF needs Redis 7.2; the tests run an older one")
def test_with_everysec_redis_is_asked(start: Start) -> None:
    rig = start(appendonly="yes", appendfsync="everysec")
    assert len(durable(rig)) == 2
    assert rig.broker.counters()["fsyncs"] == 1
    assert rig.client.info("persistence")["aof_pending_bio_fsync"] == 0


@pytest.mark.skipif(version(NEWEST) < (7, 2), reason="WAITAOF needs Redis 7.2; the tests run an older one")
def test_a_disk_that_is_too_slow_is_said(start: Start) -> None:
    rig = start(appendonly="yes", appendfsync="everysec")
    hasty = RedisClientBroker(rig.broker.redis.url, timeout_s=0.02)
    with pytest.raises(BrokerUnavailable, match=r"not known to be on disk|did not answer in time"):
        submit_until_it_is_late(hasty, rig)


@pytest.mark.parametrize(("options", "why"), [
    ({"appendonly": "no"}, "keeps no append-only file"),
    ({"appendonly": "yes", "appendfsync": "no"}, "appendfsync is no"),
    pytest.param({"appendonly": "yes", "appendfsync": "everysec"}, "Redis 7.2", marks=pytest.mark.skipif(
        version(NEWEST) >= (7, 2), reason="the Redis that the tests run has WAITAOF")),
])
def test_a_redis_that_cannot_know_refuses_before_anything_is_written(start: Start, options: dict[str, str],
                                                                     why: str) -> None:
    rig = start(**options)
    with pytest.raises(DurabilityUnavailable, match=why):
        rig.unchanged(lambda: durable(rig))
    assert len(rig.broker.submit([rig.new()])) == 1


def test_a_user_who_may_not_ask_is_told_so(start: Start) -> None:
    rig = start(appendonly="yes", appendfsync="always")
    rig.client.acl_setuser("plain", enabled=True, passwords=["+p"], keys=["*"], channels=["*"],
                            categories=["+@all", "-@dangerous"])
    broker = RedisClientBroker(f"unix://plain:p@{rig.socket}")
    with pytest.raises(DurabilityUnavailable, match="cannot promise fsync"):
        broker.submit([rig.new()._replace(durability="fsync")])


def test_a_client_asks_for_it_by_one_word(start: Start) -> None:
    rig = start(appendonly="yes", appendfsync="always")
    with Client(rig.broker.redis.url) as client:
        task_id = client.submit("t", durability="fsync")
        assert client.get(task_id).id == task_id
        assert client.submit_many([{"task_type": "t", "durability": "fsync"}, {"task_type": "t"}])
        with pytest.raises(InvalidOption, match='must be "fsync"'):
            client.submit("t", durability="disk")
