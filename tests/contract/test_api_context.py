"""What all endpoints share, on a real Redis: which parts of it run, and what is said of those that do not."""

import asyncio

import orjson
import pytest

from engine.config import load_settings
from engine.core.task.priority import TaskPriority
from engine.services.api.context import ApiContext
from engine.services.background import Background
from engine.services.metrics.collector import MetricsCollector
from engine.services.webhooks.dispatcher import WebhookDispatcher


def test_a_part_that_fails_is_degraded_and_the_rest_goes_on(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        context, has_failed = ApiContext(load_settings({"redis_url": redis_url}).settings), asyncio.Event()

        async def fail(self: WebhookDispatcher) -> None:
            asyncio.get_running_loop().call_soon(has_failed.set)
            raise ValueError("no such thing")

        monkeypatch.setattr(WebhookDispatcher, "send", fail)
        await context.open()
        try:
            await has_failed.wait()
            found = await context.health.findings()
            assert found.degraded == ["webhook sender: ValueError: no such thing"]
            assert found.reasons == ["no pool is running"]
        finally:
            context.hang_up()
            await context.close()

    asyncio.run(scene())


def test_types_that_no_pool_knows_are_named(redis_url: str) -> None:
    async def scene() -> None:
        context = ApiContext(load_settings({"redis_url": redis_url}).settings)
        keys, redis = context.broker.keys, context.broker.redis
        now_ms = context.broker.clock.now_ms()
        report = {"pool": "default", "handlers": 1, "at_ms": now_ms, "slots": [{"pid": 1}]}
        redis.call_all([("ZADD", keys.supervisors, now_ms + 60_000, "s"),
                        ("HSET", keys.reports, "s", orjson.dumps(report)),
                        ("HSET", keys.handlers, "old", b"{}"), ("SADD", keys.types("s"), "old", "both"),
                        ("SADD", keys.types_aside, "new", "both", "newer"),
                        *(("ZADD", keys.round_robin(TaskPriority.NORMAL, one), 1, "q")
                          for one in ("new", "newer", "both")),
                        *(("ZADD", keys.lane("q", TaskPriority.NORMAL, one), 1, one) for one in ("new", "newer"))])
        await context.open()
        try:
            found = await context.health.findings()
            assert found.reasons == []
            assert found.degraded == ["tasks wait whose type no living pool knows: 1 of 'new', 1 of 'newer'"]
        finally:
            context.hang_up()
            await context.close()

    asyncio.run(scene())


def test_the_keys_are_known_before_the_first_call(redis_url: str) -> None:
    async def scene() -> None:
        context = ApiContext(load_settings({"redis_url": redis_url}).settings)
        await context.open()
        try:
            assert not context.authenticator.wants_keys
            context.authenticator.identify(None)
        finally:
            context.hang_up()
            await context.close()

    asyncio.run(scene())


def test_every_job_of_the_api_is_looked_after(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is begun here and by nobody else: a new job has to be added to these."""
    kept: list[str] = []
    monkeypatch.setattr(Background, "keep", lambda self, name, work: kept.append(work.__qualname__))
    monkeypatch.setattr(Background, "keep_thread", lambda self, name, work: kept.append(work.__qualname__))

    async def scene() -> None:
        context = ApiContext(load_settings({"redis_url": redis_url}).settings)
        await context.open()
        await context.close()

    asyncio.run(scene())
    assert set(kept) == {"EventFeed._read", "ApiContext._keep_keys", MetricsCollector.follow.__qualname__,
                         WebhookDispatcher.collect.__qualname__, WebhookDispatcher.send.__qualname__}
