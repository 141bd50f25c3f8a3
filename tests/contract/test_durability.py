"""A submit that asks for fsync returns when the append-only file is on disk, or says that this Redis cannot."""

from collections.abc import Callable, Iterator

import pytest

from engine import Client, DurabilityUnavailable, InvalidOption
from engine.adapters.redis.tasks.broker import RedisClientBroker
from engine.errors import BrokerUnavailable
from tests.redis_server import RedisServer, binaries, version
from tests.scripts.shop import Shop

NEWEST = max(binaries(), key=version)
Start = Callable[..., Shop]


@pytest.fixture
def start() -> Iterator[Start]:
    made: list[tuple[RedisServer, Shop]] = []

    def starts(**options: str) -> Shop:
        server = RedisServer(NEWEST, **options)
        made.append((server, Shop(server)))
        return made[-1][1]

    yield starts
    for server, shop in made:
        shop.close()
        server.stop()


def durable(shop: Shop) -> list[str]:
    return shop.broker.submit([shop.new()._replace(durability="fsync"), shop.new()])


def test_with_appendfsync_always_every_answer_is_on_disk(start: Start) -> None:
    shop = start(appendonly="yes", appendfsync="always")
    ids = durable(shop)
    assert [stored.id for stored in shop.broker.read(ids) if stored] == ids
    written = b"".join(path.read_bytes() for path in shop.folder.rglob("appendonly.aof*") if path.is_file())
    assert all(task_id.encode() in written for task_id in ids)


def submit_until_it_is_late(broker: RedisClientBroker, shop: Shop) -> None:
    """Right behind an fsync the next one is a second away."""
    for _ in range(20):
        broker.submit([shop.new()._replace(durability="fsync")])


@pytest.mark.skipif(version(NEWEST) < (7, 2), reason="WAITAOF needs Redis 7.2; the tests run an older one")
def test_with_everysec_redis_is_asked(start: Start) -> None:
    shop = start(appendonly="yes", appendfsync="everysec")
    assert len(durable(shop)) == 2
    assert shop.broker.counters()["fsyncs"] == 1
    assert shop.client.info("persistence")["aof_pending_bio_fsync"] == 0


@pytest.mark.skipif(version(NEWEST) < (7, 2), reason="WAITAOF needs Redis 7.2; the tests run an older one")
def test_a_disk_that_is_too_slow_is_said(start: Start) -> None:
    shop = start(appendonly="yes", appendfsync="everysec")
    hasty = RedisClientBroker(shop.broker.redis.url, timeout_s=0.02)
    with pytest.raises(BrokerUnavailable, match=r"not known to be on disk|did not answer in time"):
        submit_until_it_is_late(hasty, shop)


@pytest.mark.parametrize(("options", "why"), [
    ({"appendonly": "no"}, "keeps no append-only file"),
    ({"appendonly": "yes", "appendfsync": "no"}, "appendfsync is no"),
    pytest.param({"appendonly": "yes", "appendfsync": "everysec"}, "Redis 7.2", marks=pytest.mark.skipif(
        version(NEWEST) >= (7, 2), reason="the Redis that the tests run has WAITAOF")),
])
def test_a_redis_that_cannot_know_refuses_before_anything_is_written(start: Start, options: dict[str, str],
                                                                     why: str) -> None:
    shop = start(**options)
    with pytest.raises(DurabilityUnavailable, match=why):
        shop.unchanged(lambda: durable(shop))
    assert len(shop.broker.submit([shop.new()])) == 1


def test_a_user_who_may_not_ask_is_told_so(start: Start) -> None:
    shop = start(appendonly="yes", appendfsync="always")
    shop.client.acl_setuser("plain", enabled=True, passwords=["+p"], keys=["*"], channels=["*"],
                            categories=["+@all", "-@dangerous"])
    broker = RedisClientBroker(f"unix://plain:p@{shop.socket}")
    with pytest.raises(DurabilityUnavailable, match="cannot promise fsync"):
        broker.submit([shop.new()._replace(durability="fsync")])


def test_a_client_asks_for_it_by_one_word(start: Start) -> None:
    shop = start(appendonly="yes", appendfsync="always")
    with Client(shop.broker.redis.url) as client:
        task_id = client.submit("t", durability="fsync")
        assert client.get(task_id).id == task_id
        assert client.submit_many([{"task_type": "t", "durability": "fsync"}, {"task_type": "t"}])
        with pytest.raises(InvalidOption, match='must be "fsync"'):
            client.submit("t", durability="disk")
