"""Server-sent events: their form, and the bound on the number of listeners."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any

import orjson
from fastapi import Query
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from engine.errors import BrokerError, BrokerUnavailable
from engine.services.api.context import context_of

LISTENERS_MAX = 200
MEDIA_TYPE = "text/event-stream"
KEEP_ALIVE = b": still here\n\n"
DOCUMENTED: dict[str, Any] = {"response_class": Response, "responses": {200: {
    "description": "Server-sent events.", "content": {MEDIA_TYPE: {}}}}}


def message(kind: str, data: bytes, entry_id: str | None = None) -> bytes:
    """Return one event. A listener that connects again names the last `entry_id` that it has seen."""
    head = f"id: {entry_id}\n" if entry_id is not None else ""
    return f"{head}event: {kind}\ndata: ".encode() + data + b"\n\n"


Seconds = Annotated[float | None, Query(gt=0, le=86_400, description="End it after so long; else it has no end.")]


def stream(request: Request, messages: AsyncIterator[bytes], seconds: float | None) -> Response:
    """Return an answer that goes on for `seconds`, or without end. Raises `BrokerUnavailable` when too many listen."""
    context = context_of(request)
    if context.listeners >= LISTENERS_MAX:
        raise BrokerUnavailable(f"{LISTENERS_MAX} listen already")
    if request.scope.get("is_head"):
        return Response(media_type=MEDIA_TYPE)
    request.scope["deadline"].reschedule(None)

    async def all_of_it() -> AsyncIterator[bytes]:
        context.listeners += 1
        try:
            async with asyncio.timeout(seconds):
                async for text in messages:
                    yield text
        except TimeoutError:
            return
        except BrokerError as error:
            yield message("error", orjson.dumps({"detail": str(error)}))
        finally:
            context.listeners -= 1

    return StreamingResponse(all_of_it(), media_type=MEDIA_TYPE, headers={"X-Accel-Buffering": "no"})
