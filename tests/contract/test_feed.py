"""The feed of events on a real Redis: nothing is left out unsaid, however far behind a follower is."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import redis
from prometheus_client import generate_latest

from engine.adapters.redis.records.event_stream import RedisEventStreamReader
from engine.client.provider import RedisBrokerProvider
from engine.config import load_settings
from engine.core.task import event
from engine.core.task.lifecycle import TaskStatus
from engine.services.background import Background
from engine.services.event_feed import EVENTS_KEPT, EventBatch, EventFeed
from engine.services.metrics.collector import MetricsCollector
from engine.services.thread_pool import ThreadPool

STREAM = "ganger:{0}:events"
MAXLEN = 1_000  # of the engine's own it is 10,000


class Scene:
    """A feed that is read while others write to the stream."""

    def __init__(self, url: str) -> None:
        self.redis = redis.Redis.from_url(url)
        self.provider = RedisBrokerProvider(load_settings({"redis_url": url}).settings)
        self.feed = EventFeed(self.provider, ThreadPool())
        self.written = 0

    def write(self, entries: int, events: int = 1) -> None:
        pipeline = self.redis.pipeline()
        for _ in range(entries):
            self.written += 1
            ids = [f"01H5RC2K8D7Q{self.written:07d}"] * events
            pipeline.xadd(STREAM, {"e": event.row(ids, TaskStatus.COMPLETED, 1)}, maxlen=MAXLEN, approximate=False)
        pipeline.execute()

    def first_id(self) -> str:
        return str(self.redis.xrange(STREAM, count=1)[0][0].decode())

    def last_id(self) -> str:
        return str(self.redis.xrevrange(STREAM, count=1)[0][0].decode())

    async def read_until(self, follower: AsyncIterator[EventBatch], entry_id: str) -> list[EventBatch]:
        batches = []
        async for batch in follower:
            batches.append(batch)
            if batch.entries and batch.entries[-1].id == entry_id:
                return batches
        raise AssertionError("the feed has ended")


def play(url: str, scene: Callable[[Scene], Awaitable[None]]) -> None:
    async def whole() -> None:
        stage = Scene(url)
        stage.write(10)
        background = Background()
        stage.feed.start(background)
        try:
            await scene(stage)
        finally:
            background.close()
            stage.feed.close()
            stage.provider.close()
            stage.redis.close()

    asyncio.run(whole())


def count(batches: list[EventBatch]) -> int:
    return sum(len(batch.entries) for batch in batches)


def test_a_follower_that_falls_behind_later_is_told_of_the_gap(redis_url: str) -> None:
    async def scene(stage: Scene) -> None:
        follower = stage.feed.follow(stage.first_id())
        batches = await stage.read_until(follower, stage.last_id())
        assert (count(batches), any(batch.gap for batch in batches)) == (9, False)
        for _ in range(5):  # it stands still meanwhile
            stage.write(MAXLEN)
        late = await stage.read_until(follower, stage.last_id())
        assert [batch.gap for batch in late].count(True) == 1
        assert late[0].gap
        assert count(late) == MAXLEN

    play(redis_url, scene)


def test_a_reader_that_falls_behind_is_told_of_the_gap(redis_url: str) -> None:
    stage = Scene(redis_url)
    stage.write(10)
    broker = stage.provider.broker()
    tail, position = RedisEventStreamReader(broker.redis, broker.keys), stage.last_id()
    assert not tail.follow(stage.first_id(), 500, 100).gap
    stage.write(MAXLEN + 500)
    page = tail.follow(position, 500, 100)
    assert (page.gap, len(page.entries)) == (True, 500)
    assert not tail.follow(page.entries[-1].id, 500, 100).gap
    assert not tail.after(page.entries[0].id, 5).gap
    tail.close()
    stage.provider.close()
    stage.redis.close()


def test_what_is_kept_in_memory_is_bounded_by_its_events(redis_url: str) -> None:
    """An entry of a batch has hundreds of events."""
    async def scene(stage: Scene) -> None:
        while stage.feed.position is None:  # else it may begin behind what is written here
            await stage.feed._next(1.0)
        stage.write(150, events=250)
        while not stage.feed._kept or stage.feed._kept[-1][1].id != stage.last_id():
            await stage.feed._next(1.0)
        assert 0 < stage.feed.events_kept <= EVENTS_KEPT

    play(redis_url, scene)


def test_metrics_say_how_often_events_were_missed(redis_url: str, caplog: pytest.LogCaptureFixture) -> None:
    async def scene(stage: Scene) -> None:
        collector = MetricsCollector(stage.provider, stage.feed, ThreadPool(), lambda stored: None)
        await collector.count(EventBatch([], gap=True))
        assert collector.window.gaps == 1
        assert b"ganger_event_gaps_total 1.0" in generate_latest(collector.prometheus.registry)

    play(redis_url, scene)
    assert "some events are not in the metrics" in caplog.text


def test_who_begins_at_the_beginning_or_within_what_is_there_misses_nothing(redis_url: str) -> None:
    async def scene(stage: Scene) -> None:
        stage.write(2 * MAXLEN)
        for after in ("0-0", stage.first_id()):
            batches = await stage.read_until(stage.feed.follow(after), stage.last_id())
            assert not any(batch.gap for batch in batches)
            assert count(batches) == MAXLEN - (after != "0-0")

    play(redis_url, scene)


def test_followers_end_with_the_server_where_redis_was_never_there() -> None:
    async def scene() -> None:
        provider = RedisBrokerProvider(load_settings({"redis_url": "unix:///nowhere/redis.sock"}).settings)
        feed = EventFeed(provider, ThreadPool())
        asyncio.get_running_loop().call_soon(feed.hang_up)  # when the follower has begun to wait
        assert await asyncio.wait_for(anext(feed.follow(None), None), 30) is None
        provider.close()

    asyncio.run(scene())
