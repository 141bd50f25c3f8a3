"""What stands before all endpoints, with an endpoint of the test's behind it."""

import asyncio
from types import SimpleNamespace
from typing import Any

from starlette.types import Receive, Scope, Send

from engine.config import Settings
from engine.ports.api_keys import ApiKeyTable
from engine.services.api.http.authentication import Authenticator
from engine.services.api.http.rate_limiter import RateLimiter
from engine.services.api.http.security import BODIES_MAX, SecurityMiddleware

BODY = 1_000_000


def make_context() -> Any:
    authenticator = Authenticator(is_open=True, is_local=True)
    authenticator.learn(ApiKeyTable({}, None))
    return SimpleNamespace(settings=Settings(api_body_bytes_max=BODY), authenticator=authenticator,
                           rate_limiter=RateLimiter(), body_bytes=0)


def scope() -> Scope:
    return {"type": "http", "method": "POST", "path": "/api/v1/tasks", "query_string": b"", "client": ("127.0.0.1", 1),
            "headers": [(b"host", b"localhost")]}


async def call(middleware: SecurityMiddleware, body: bytes) -> int:
    told: list[int] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            told.append(message["status"])

    await middleware(scope(), receive, send)
    return told[0]


def test_bodies_in_memory_are_bounded_together() -> None:
    async def scene() -> None:
        context, all_in, let_go = make_context(), asyncio.Semaphore(0), asyncio.Event()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            all_in.release()
            await let_go.wait()
            await send({"type": "http.response.start", "status": 201, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        middleware = SecurityMiddleware(app, context)
        held = [asyncio.ensure_future(call(middleware, b"x" * BODY)) for _ in range(BODIES_MAX)]
        for _ in held:
            await all_in.acquire()
        assert await call(middleware, b"x" * BODY) == 503
        small = asyncio.ensure_future(call(middleware, b"{}"))
        await all_in.acquire()
        let_go.set()
        assert {await one for one in (*held, small)} == {201}
        assert context.body_bytes == 0
        assert await call(middleware, b"x" * BODY) == 201

    asyncio.run(scene())
