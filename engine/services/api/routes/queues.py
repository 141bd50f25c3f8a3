"""`/queues`: what waits where; pause, resume and purge one."""

from typing import Annotated

from fastapi import Path
from starlette.requests import Request

from engine.services.api.context import context_of, principal_of
from engine.services.api.http.authentication import Role
from engine.services.api.http.route import api_router, route_spec
from engine.services.api.models.queues import QueueChange, QueueStats, QueueTotals

router = api_router("queues")
Name = Annotated[str, Path(description="Name of the queue.", pattern=r"^[A-Za-z0-9._-]{1,64}$", examples=["images"])]


@router.get("/queue/stats", summary="All queues together", **route_spec(Role.READ))
async def get_queue_totals(request: Request) -> QueueTotals:
    """How much waits by priority and for how long, and how many tasks are in each status."""
    context, principal = context_of(request), principal_of(request)
    queues = await _seen(request)
    statuses = await context.threads.run(context.client.engine.task_counts) if principal.queues is None else {}
    queued: dict[str, int] = {}
    for stats in queues:
        for priority, count in stats.queued.items():
            queued[priority] = queued.get(priority, 0) + count
    return QueueTotals(
        queues=len(queues), paused=sum(stats.paused for stats in queues), queued=queued,
        oldest_s=max((stats.oldest_s for stats in queues if stats.oldest_s is not None), default=None),
        statuses=statuses)


@router.get("/queues", summary="Each queue, and what waits in it", **route_spec(Role.READ))
async def list_queues(request: Request) -> list[QueueStats]:
    """Every queue that is known. One that is open, empty and unused for a day is forgotten."""
    return await _seen(request)


@router.post("/queues/{name}/pause", summary="Start no more tasks of a queue", **route_spec(Role.OPERATE))
async def pause_queue(request: Request, name: Name) -> QueueChange:
    """What runs goes on, and submits are accepted."""
    context = context_of(request)
    principal_of(request).must_see(name)
    await context.threads.run(context.client.queues.pause, name)
    return QueueChange(queue=name, paused=True)


@router.post("/queues/{name}/resume", summary="Start tasks of a queue again", **route_spec(Role.OPERATE))
async def resume_queue(request: Request, name: Name) -> QueueChange:
    """The end of a pause."""
    context = context_of(request)
    principal_of(request).must_see(name)
    await context.threads.run(context.client.queues.resume, name)
    return QueueChange(queue=name, paused=False)


@router.post("/queues/{name}/purge", summary="Cancel every task that waits in a queue", **route_spec(Role.ADMIN))
async def purge_queue(request: Request, name: Name) -> QueueChange:
    """What runs goes on."""
    context = context_of(request)
    principal_of(request).must_see(name)
    return QueueChange(queue=name, purged=await context.threads.run(context.client.queues.purge, name))


async def _seen(request: Request) -> list[QueueStats]:
    context, principal = context_of(request), principal_of(request)
    found = await context.threads.run(context.client.queues.stats)
    return [QueueStats.model_validate(stats.model_dump()) for stats in found if principal.sees(stats.queue)]
