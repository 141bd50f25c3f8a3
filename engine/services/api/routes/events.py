"""`/events`: every change of a task's status as it happens, and the lines of a task's log as they are written."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated

import orjson
from fastapi import Header, Query
from starlette.requests import Request
from starlette.responses import Response

from engine.core.task.event import Event
from engine.core.task.lifecycle import TaskStatus
from engine.core.task.stored_task import StoredTask
from engine.errors import TaskNotFound
from engine.ports.event_stream import StreamEntry
from engine.services.api.context import ApiContext, context_of, principal_of
from engine.services.api.http import sse
from engine.services.api.http.authentication import Principal, Role
from engine.services.api.http.route import api_router, route_spec
from engine.services.api.models.base import EVENT_ID
from engine.services.api.models.tasks import LogEntry
from engine.services.api.routes.tasks import TaskId

POLL_S = 0.3  # for new lines of a log
PIECE_EVENTS = 200  # sent to one listener in one go
router = api_router("events")


class EventFilter:
    """Which events a listener gets. Some of what they ask for is not in an event, and has to be looked up."""

    def __init__(self, principal: Principal, statuses: list[TaskStatus] | None, task_id: str | None,
                 task_type: str | None, queue: str | None, tag: str | None) -> None:
        self.principal, self.statuses, self.task_id = principal, frozenset(statuses or TaskStatus), task_id
        self.task_type, self.queue, self.tag = task_type, queue, tag
        self.must_look = principal.queues is not None or any(one is not None for one in (task_type, queue, tag))

    def at_first_sight(self, event: Event) -> bool:
        return event.status in self.statuses and self.task_id in (None, event.id)

    def matches(self, stored: StoredTask | None) -> bool:
        return (stored is not None and self.principal.sees(stored.record.queue)
                and self.task_type in (None, stored.record.task_type) and self.queue in (None, stored.record.queue)
                and (self.tag is None or self.tag in stored.record.options.get("tags", ())))


@router.get("/events", summary="Every change of a task's status, as it happens",
            **route_spec(Role.READ, **sse.DOCUMENTED))
async def follow_events(
    request: Request,
    status: Annotated[list[TaskStatus] | None, Query(max_length=8, description="Only these statuses.")] = None,
    task_id: Annotated[str | None, Query(max_length=64)] = None,
    task_type: Annotated[str | None, Query(max_length=200)] = None,
    queue: Annotated[str | None, Query(max_length=64)] = None,
    tag: Annotated[str | None, Query(max_length=200)] = None,
    seconds: sse.Seconds = None,
    last_event_id: Annotated[str, Header(pattern=EVENT_ID)] = "",
) -> Response:
    """Server-sent events, kind `status`, data a TaskEvent. With Last-Event-ID from behind that one on; a `gap` says
    that some before are not kept any more. What was sent just before a connection was lost may come again."""
    event_filter = EventFilter(principal_of(request), status, task_id, task_type, queue, tag)
    return sse.stream(request, _messages(context_of(request), event_filter, last_event_id or None), seconds)


async def _messages(context: ApiContext, event_filter: EventFilter, after: str | None) -> AsyncIterator[bytes]:
    yield b"retry: 2000\n\n"
    async for batch in context.feed.follow(after):
        if batch.gap:
            yield sse.message("gap", b'{"detail":"some events are not kept any more"}')
        texts, events_sent = [], 0
        for entry in batch.entries:  # many at once: each piece costs the server a turn of its loop
            texts.append(await _text(context, event_filter, entry))
            events_sent += len(entry.events)
            if events_sent >= PIECE_EVENTS:
                yield b"".join(texts)
                texts, events_sent = [], 0
                await asyncio.sleep(0)
        if text := b"".join(texts):
            yield text
        if not batch.entries:
            yield sse.KEEP_ALIVE


async def _text(context: ApiContext, event_filter: EventFilter, entry: StreamEntry) -> bytes:
    """The events of one entry; the last of them has the id, so that none is skipped after a lost connection."""
    chosen = [event for event in entry.events if event_filter.at_first_sight(event)]
    found: dict[str, StoredTask | None] = {}
    if chosen and event_filter.must_look:
        ids = list(dict.fromkeys(event.id for event in chosen))
        found = dict(zip(ids, await context.threads.run(context.operations.read, ids), strict=True))
        chosen = [event for event in chosen if event_filter.matches(found[event.id])]
    at = datetime.fromtimestamp(entry.at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    texts = []
    for number, event in enumerate(chosen, 1):
        row = {"id": event.id, "status": event.status, "run": event.run, "at": at}
        if stored := found.get(event.id):
            row |= {"task_type": stored.record.task_type, "queue": stored.record.queue}
        texts.append(sse.message("status", orjson.dumps(row), entry.id if number == len(chosen) else None))
    return b"".join(texts)


@router.get("/tasks/{task_id}/logs", tags=["tasks"], summary="What a task's runs printed and logged",
            response_model=list[LogEntry], **route_spec(Role.READ, 404))
async def get_task_logs(
    request: Request, task_id: TaskId,
    start: Annotated[int, Query(ge=0, le=1_000_000_000, description="The first line, from 0.")] = 0,
    follow: Annotated[bool, Query(description="Go on, as server-sent events, until the task has ended.")] = False,
    seconds: sse.Seconds = None,
) -> Response:
    """Also while it runs."""
    context, principal = context_of(request), principal_of(request)
    await context.task(task_id, principal)
    if follow:
        return sse.stream(request, _lines(context, principal, task_id, start), seconds)
    rows = await context.threads.run(context.client.tasks.logs, task_id, start)
    body = b"[" + b",".join(row.model_dump_json().encode() for row in rows) + b"]"
    return Response(body, media_type="application/json")


async def _lines(context: ApiContext, principal: Principal, task_id: str, start: int) -> AsyncIterator[bytes]:
    """The status is read before the lines: what was written before the end is then among them."""
    while not context.feed.has_hung_up:
        try:
            ended = (await context.task(task_id, principal)).state.status.is_final
            rows = await context.threads.run(context.client.tasks.logs, task_id, start)
        except TaskNotFound:
            return
        for row in rows:
            start += 1
            yield sse.message("line", row.model_dump_json().encode(), str(start))
        if ended:
            yield sse.message("end", b"{}")
            return
        if not rows:
            await context.feed.end_of(task_id, POLL_S)
