"""`/tasks`: submit one, see what becomes of it, change it, cancel it, run it again."""

from typing import Annotated, Any

from fastapi import Header, Path, Query
from starlette.requests import Request
from starlette.responses import Response

from engine.client.models import moment
from engine.core.task.lifecycle import TaskStatus
from engine.core.task.stored_task import StoredTask
from engine.errors import ChangedMeanwhile, ResultNotReady
from engine.services.api.context import context_of, principal_of
from engine.services.api.http.authentication import Role
from engine.services.api.http.problems import HttpError
from engine.services.api.http.route import api_router, parse_body, route_spec
from engine.services.api.models.base import EXAMPLE_ID
from engine.services.api.models.tasks import (
    CancelRequest,
    Moved,
    TaskCreate,
    TaskResponse,
    TaskResult,
    TaskRun,
    TaskState,
    TaskUpdate,
)
from engine.services.api.submitter import SubmitRequest
from engine.tasks.options import is_traceparent

WAIT_S_MAX = 300
router = api_router("tasks")

TaskId = Annotated[str, Path(description="Id of the task.", examples=[EXAMPLE_ID], max_length=64)]
JSON = "application/json"
_LOCATION = {"Location": {"description": "Where the task is.", "schema": {"type": "string"}}}
_ETAG = {"ETag": {"description": "Version of the task, for If-Match.", "schema": {"type": "string"}}}


@router.post("/tasks", status_code=201, summary="Submit a task", response_model=TaskResponse, **route_spec(
    Role.SUBMIT, 409, body=TaskCreate, responses={201: {"headers": {**_LOCATION, **_ETAG}}}))
async def submit_task(
    request: Request,
    idempotency_key: Annotated[str, Header(max_length=200)] = "",
    traceparent: Annotated[str, Header(max_length=200)] = "",
) -> Response:
    """When it answers, the task is in Redis. A second submit to the same queue with the same Idempotency-Key gives the
    first task, and 409 where the type or the payload is another."""
    options = (await parse_body(request, TaskCreate)).options()
    if idempotency_key and options.setdefault("idempotency_key", idempotency_key) != idempotency_key:
        raise HttpError(422, "the header Idempotency-Key and the field idempotency_key differ", field="idempotency_key",
                        limit="one of them, or the same key in both")
    carry(options, traceparent)
    stored = await context_of(request).submit_batcher.call(SubmitRequest(options, principal_of(request)))
    request.scope["audit"] = {"task_id": stored.id}
    return _task(stored, 201, {"Location": f"/api/v1/tasks/{stored.id}"})


@router.get("/tasks/{task_id}/status", summary="Where a task is", response_model=TaskState,
            **route_spec(Role.READ, 404))
async def get_task_status(request: Request, task_id: TaskId) -> Response:
    """The cheapest call."""
    stored = await context_of(request).task(task_id, principal_of(request))
    return Response(TaskState.of(stored).model_dump_json(), media_type=JSON)


@router.get("/tasks/{task_id}", summary="All that is known of a task", response_model=TaskResponse, **route_spec(
    Role.READ, 404, responses={200: {"headers": _ETAG}, 304: {"description": "It is as If-None-Match names it."}}))
async def get_task(
    request: Request, task_id: TaskId,
    if_none_match: Annotated[str, Header(max_length=200, description="ETags of versions that you have.")] = "",
) -> Response:
    """Where it is, how its latest run ended, and what that used."""
    stored = await context_of(request).task(task_id, principal_of(request))
    if if_none_match and (if_none_match.strip() == "*" or stored.version in _versions(if_none_match)):
        return Response(status_code=304, headers={"ETag": f'"{stored.version}"'})
    reason = None
    if stored.state.status is TaskStatus.QUEUED:
        context = context_of(request)
        reason = await context.threads.run(context.broker.reason, stored)
    return _task(stored, reason=reason)


@router.get("/tasks/{task_id}/result", summary="What the handler returned", response_model=TaskResult, **route_spec(
    Role.READ, 404, 409))
async def get_task_result(
    request: Request, task_id: TaskId,
    wait: Annotated[float, Query(ge=0, le=WAIT_S_MAX, description="Seconds to wait for the end.")] = 0,
) -> Response:
    """How the task ended; 409 with its status while it has not, after waiting for `wait` seconds."""
    context = context_of(request)
    allow_time(request, wait)
    stored = await context.ended_task(task_id, principal_of(request), wait)
    if not stored.state.status.is_final:
        raise ResultNotReady(task_id, stored.state.status, wait)
    return Response(TaskResult.of(stored).model_dump_json(), media_type=JSON)


@router.get("/tasks/{task_id}/runs", summary="How each run of a task went", **route_spec(Role.READ, 404))
async def list_task_runs(request: Request, task_id: TaskId) -> list[TaskRun]:
    """Worker, times, cause, CPU and memory of each, and what was found out about those that died."""
    context = context_of(request)
    stored = await context.task(task_id, principal_of(request))
    found = [TaskRun.of(outcome) for outcome in await context.threads.run(context.client.tasks.outcomes, task_id)]
    if stored.state.status is TaskStatus.RUNNING:
        found.append(TaskRun(run=stored.state.run, is_running=True, worker=stored.state.owner,
                             started_at=moment(stored.state.at_ms)))
    return found


@router.patch("/tasks/{task_id}", summary="Change a task that has not started", response_model=TaskResponse,
              **route_spec(Role.OPERATE, 404, 409, 412, body=TaskUpdate, responses={200: {"headers": _ETAG}}))
async def update_task(
    request: Request, task_id: TaskId,
    if_match: Annotated[str, Header(max_length=200, description="ETags of versions that you have seen.")] = "",
) -> Response:
    """Its priority, name, tags and limits. With If-Match only if nobody has changed it, and it has not moved."""
    context = context_of(request)
    update = await parse_body(request, TaskUpdate)
    await context.task(task_id, principal_of(request))
    changes = {name: getattr(update, name) for name in update.model_fields_set}
    versions = None if if_match.strip() in ("", "*") else _versions(if_match)
    try:
        return _task(await context.threads.run(context.operations.amend, task_id, changes, versions))
    except ChangedMeanwhile as error:
        raise HttpError(412, str(error), task_id=task_id) from None


@router.post("/tasks/{task_id}/cancel", summary="Cancel a task", **route_spec(
    Role.OPERATE, 404, 409, body=CancelRequest, body_required=False))
async def cancel_task(request: Request, task_id: TaskId) -> Moved:
    """One that waits is CANCELLED at once; one that runs is RUNNING until its worker has stopped it."""
    context = context_of(request)
    reason = (await parse_body(request, CancelRequest, required=False)).reason
    await context.task(task_id, principal_of(request))
    return Moved(id=task_id, status=await context.threads.run(context.client.tasks.cancel, task_id, reason))


@router.post("/tasks/{task_id}/retry", summary="Run a task again after its end", **route_spec(Role.OPERATE, 404, 409))
async def retry_task(request: Request, task_id: TaskId) -> Moved:
    """One that FAILED, was CANCELLED or timed out is queued again, with all its retries."""
    context = context_of(request)
    await context.task(task_id, principal_of(request))
    await context.threads.run(context.client.tasks.retry, task_id)
    return Moved(id=task_id, status=(await context.task(task_id, principal_of(request))).state.status)


def _versions(header: str) -> frozenset[str]:
    """Of a list of ETags. A proxy that packs answers makes weak ones of ours, which are as good."""
    return frozenset(one.strip().removeprefix("W/").strip('"') for one in header.split(","))


def carry(options: dict[str, Any], traceparent: str) -> None:
    """Give the task the trace of the request; one that makes no sense is passed over, as W3C says."""
    if traceparent and is_traceparent(traceparent):
        options.setdefault("traceparent", traceparent)


def allow_time(request: Request, more_s: float) -> None:
    """Let this request take so much longer than others."""
    deadline = request.scope["deadline"]
    deadline.reschedule(deadline.when() + more_s)


def _task(stored: StoredTask, status: int = 200, headers: dict[str, str] | None = None,
          reason: str | None = None) -> Response:
    task = TaskResponse.of(stored)
    if reason is not None:
        task = task.model_copy(update={"reason": reason})
    return Response(task.model_dump_json(), status, media_type=JSON,
                    headers={"ETag": f'"{stored.version}"', **(headers or {})})
