"""What stands before all endpoints, with an endpoint of the test's behind it."""

import asyncio
from types import SimpleNamespace
from typing import Any

from starlette.types import Receive, Scope, Send

from engine.adapters.redis.records.api_keys import KeyTable
from engine.config import Settings
from engine.services.api.http.access import Access
from engine.services.api.http.rates import Rates
from engine.services.api.http.security import BODIES_MAX, Guard

BODY = 1_000_000


def make_desk() -> Any:
    access = Access(is_open=True, is_local=True)
    access.learn(KeyTable({}, None))
    return SimpleNamespace(settings=Settings(api_body_bytes_max=BODY), access=access, rates=Rates(), body_bytes=0)


def scope() -> Scope:
    return {"type": "http", "method": "POST", "path": "/api/v1/tasks", "query_string": b"", "client": ("127.0.0.1", 1),
            "headers": [(b"host", b"localhost")]}


async def call(guard: Guard, body: bytes) -> int:
    told: list[int] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            told.append(message["status"])

    await guard(scope(), receive, send)
    return told[0]


def test_bodies_in_memory_are_bounded_together() -> None:
    async def scene() -> None:
        desk, all_in, let_go = make_desk(), asyncio.Semaphore(0), asyncio.Event()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            all_in.release()
            await let_go.wait()
            await send({"type": "http.response.start", "status": 201, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        guard = Guard(app, desk)
        held = [asyncio.ensure_future(call(guard, b"x" * BODY)) for _ in range(BODIES_MAX)]
        for _ in held:
            await all_in.acquire()
        assert await call(guard, b"x" * BODY) == 503
        small = asyncio.ensure_future(call(guard, b"{}"))
        await all_in.acquire()
        let_go.set()
        assert {await one for one in (*held, small)} == {201}
        assert desk.body_bytes == 0
        assert await call(guard, b"x" * BODY) == 201

    asyncio.run(scene())
