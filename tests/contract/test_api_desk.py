"""What all endpoints share, on a real Redis: which parts of it run, and what is said of those that do not."""

import asyncio

import orjson
import pytest

from engine.config import load_settings
from engine.core.task.priority import TaskPriority
from engine.services.api.context import Desk
from engine.services.background import Background
from engine.services.metrics.watching import Watching
from engine.services.webhooks.deliveries import Deliveries


def test_a_part_that_fails_is_degraded_and_the_rest_goes_on(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        desk, has_failed = Desk(load_settings({"redis_url": redis_url}).settings), asyncio.Event()

        async def fail(self: Deliveries) -> None:
            asyncio.get_running_loop().call_soon(has_failed.set)
            raise ValueError("no such thing")

        monkeypatch.setattr(Deliveries, "send", fail)
        await desk.open()
        try:
            await has_failed.wait()
            found = await desk.health.findings()
            assert found.degraded == ["webhook sender: ValueError: no such thing"]
            assert found.reasons == ["no pool is running"]
        finally:
            desk.hang_up()
            await desk.close()

    asyncio.run(scene())


def test_types_that_no_pool_knows_are_named(redis_url: str) -> None:
    async def scene() -> None:
        desk = Desk(load_settings({"redis_url": redis_url}).settings)
        keys, redis = desk.operator.broker.keys, desk.operator.broker.redis
        now_ms = desk.operator.broker.clock.now_ms()
        report = {"pool": "default", "handlers": 1, "at_ms": now_ms, "slots": [{"pid": 1}]}
        redis.call_all([("ZADD", keys.supervisors, now_ms + 60_000, "s"),
                        ("HSET", keys.reports, "s", orjson.dumps(report)),
                        ("HSET", keys.handlers, "old", b"{}"), ("SADD", keys.types("s"), "old", "both"),
                        ("SADD", keys.aside, "new", "both", "newer"),
                        *(("ZADD", keys.turns(TaskPriority.NORMAL, one), 1, "q") for one in ("new", "newer", "both")),
                        *(("ZADD", keys.line("q", TaskPriority.NORMAL, one), 1, one) for one in ("new", "newer"))])
        await desk.open()
        try:
            found = await desk.health.findings()
            assert found.reasons == []
            assert found.degraded == ["tasks wait whose type no living pool knows: 1 of 'new', 1 of 'newer'"]
        finally:
            desk.hang_up()
            await desk.close()

    asyncio.run(scene())


def test_the_keys_are_known_before_the_first_call(redis_url: str) -> None:
    async def scene() -> None:
        desk = Desk(load_settings({"redis_url": redis_url}).settings)
        await desk.open()
        try:
            assert not desk.access.wants_keys
            desk.access.identify(None)
        finally:
            desk.hang_up()
            await desk.close()

    asyncio.run(scene())


def test_every_duty_of_the_api_is_looked_after(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is begun here and by nobody else: a new duty has to be added to those that are looked after."""
    kept: list[str] = []
    monkeypatch.setattr(Background, "keep", lambda self, name, work: kept.append(work.__qualname__))
    monkeypatch.setattr(Background, "keep_thread", lambda self, name, work: kept.append(work.__qualname__))

    async def scene() -> None:
        desk = Desk(load_settings({"redis_url": redis_url}).settings)
        await desk.open()
        await desk.close()

    asyncio.run(scene())
    assert set(kept) == {"Feed._read", "Desk._keep_keys", Watching.follow.__qualname__,
                         Deliveries.collect.__qualname__, Deliveries.send.__qualname__}
