"""Many tasks in one call: submit, list and search them, and operate on all that match a filter."""

from typing import Annotated, Any

from fastapi import Header, Query
from starlette.requests import Request
from starlette.responses import Response

from engine.client.operations import Operation
from engine.core.task.lifecycle import TaskStatus
from engine.core.task.priority import TaskPriority
from engine.core.task.stored_task import StoredTask
from engine.services.api.context import ApiContext, context_of, principal_of
from engine.services.api.http import bodies, cursors, problems
from engine.services.api.http.authentication import Principal, Role
from engine.services.api.http.problems import HttpError, Problem
from engine.services.api.http.route import api_router, parse_body, route_spec
from engine.services.api.models.base import CURSOR, Priority
from engine.services.api.models.search import (
    BatchItem,
    BatchOperation,
    BatchReport,
    BatchResult,
    PriorityOperation,
    TaskBatch,
    TaskBatchEnvelope,
    TaskPage,
    TaskSearch,
)
from engine.services.api.models.tasks import TaskCreate, TaskResponse
from engine.services.api.routes.tasks import JSON, allow_time, carry
from engine.services.api.submitter import SubmitRequest

BATCH_S = 60  # more than other calls may take
router = api_router("tasks")


@router.post("/tasks/batch", status_code=201, summary="Submit up to 1,000 tasks", response_model=BatchResult,
             **route_spec(Role.SUBMIT, 409, body=TaskBatch, responses={
                 207: {"model": BatchResult, "description": "Some were refused."}}))
async def submit_tasks(
    request: Request, traceparent: Annotated[str, Header(max_length=200)] = "",
) -> Response:
    """201 if all were submitted, 207 if some were refused; with all_or_nothing 422 if one is, and none is submitted."""
    context = context_of(request)
    batch = await parse_body(request, TaskBatchEnvelope)
    allow_time(request, BATCH_S)
    results = await context.threads.run(_submit_all, context, principal_of(request), batch, traceparent)
    items = [_item(index, result) for index, result in enumerate(results)]
    refused = sum(item.id is None for item in items)
    request.scope["audit"] = {"submitted": len(items) - refused, "refused": refused}
    if refused and batch.all_or_nothing:
        first = next(item for item in items if item.problem and item.status != 424)
        assert first.problem is not None
        name = f"tasks[{first.index}]"
        raise HttpError(
            first.status, f"none was submitted, because of {name}: {first.problem.detail}",
            field=f"{name}.{first.problem.field or ''}".rstrip("."), limit=first.problem.limit)
    result = BatchResult(submitted=len(items) - refused, refused=refused, items=items)
    return Response(result.model_dump_json(), 207 if refused else 201, media_type=JSON)


def _submit_all(context: ApiContext, principal: Principal, batch: TaskBatchEnvelope,
               traceparent: str) -> list[StoredTask | Exception]:
    """Return the result of each; in a thread."""
    requests = [_submit_request(value, principal, traceparent) for value in batch.tasks]
    return context.submitter.submit_all(requests, all_or_nothing=batch.all_or_nothing)


def _submit_request(value: Any, principal: Principal, traceparent: str) -> SubmitRequest | HttpError:
    try:
        made = SubmitRequest(bodies.item(TaskCreate, value).options(), principal)
    except HttpError as refused:
        return refused
    carry(made.task, traceparent)
    return made


def _item(index: int, submitted: StoredTask | Exception) -> BatchItem:
    if isinstance(submitted, StoredTask):
        return BatchItem(index=index, status=201, id=submitted.id)
    refused = problems.of(submitted)
    return BatchItem(index=index, status=refused.status, problem=Problem(**problems.as_dict(refused)))


@router.get("/tasks", summary="List tasks, page by page", response_model=TaskPage, **route_spec(Role.READ))
async def list_tasks(
    request: Request,
    status: Annotated[list[TaskStatus] | None, Query(max_length=8)] = None,
    task_type: Annotated[str | None, Query(max_length=200)] = None,
    queue: Annotated[str | None, Query(pattern=r"^[A-Za-z0-9._-]{1,64}$")] = None,
    priority: Annotated[Priority | None, Query()] = None,
    name: Annotated[str | None, Query(max_length=200)] = None,
    tag: Annotated[list[str] | None, Query(max_length=32)] = None,
    text: Annotated[str | None, Query(max_length=200)] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    cursor: Annotated[str | None, Query(max_length=200, pattern=CURSOR)] = None,
    sort: Annotated[str, Query(pattern="^-?created$")] = "-created",
) -> Response:
    """The newest first. POST /tasks/search can do more."""
    search = TaskSearch.model_construct(
        status=status, task_type=task_type or None, queue=queue, priority=priority, name=name or None, tags=tag,
        text=text or None, limit=limit, cursor=cursor, sort=sort)
    return await _page(request, search)


@router.post("/tasks/search", summary="Search tasks", response_model=TaskPage, **route_spec(Role.READ, body=TaskSearch))
async def search_tasks(request: Request) -> Response:
    """By anything that is known of them, page by page."""
    return await _page(request, await parse_body(request, TaskSearch))


async def _page(request: Request, search: TaskSearch) -> Response:
    context, principal = context_of(request), principal_of(request)
    wanted = search.wanted(principal.queues, oldest_first=search.sort == "created")
    found = await context.threads.run(context.operations.search, wanted, search.limit, cursors.read(search.cursor))
    page = TaskPage(tasks=[TaskResponse.of(stored) for stored in found.tasks], next=cursors.shown(found.cursor),
                    is_sorted=found.is_sorted)
    return Response(page.model_dump_json(), media_type=JSON)


@router.post("/tasks/batch/cancel", summary="Cancel the tasks that match a filter", **route_spec(
    Role.OPERATE, body=BatchOperation))
async def cancel_tasks(request: Request) -> BatchReport:
    """Those that wait and those that run. With dry_run they are only counted."""
    return await _operate(request, "cancel", await parse_body(request, BatchOperation))


@router.post("/tasks/batch/retry", summary="Run the tasks again that match a filter", **route_spec(
    Role.OPERATE, body=BatchOperation))
async def retry_tasks(request: Request) -> BatchReport:
    """Those that FAILED, were CANCELLED or timed out. With dry_run they are only counted."""
    return await _operate(request, "retry", await parse_body(request, BatchOperation))


@router.post("/tasks/batch/delete", summary="Forget the tasks that match a filter", **route_spec(
    Role.ADMIN, body=BatchOperation))
async def delete_tasks(request: Request) -> BatchReport:
    """Those that have ended, with their results. With dry_run they are only counted."""
    return await _operate(request, "delete", await parse_body(request, BatchOperation))


@router.post("/tasks/batch/priority", summary="Change the priority of the tasks that match a filter", **route_spec(
    Role.OPERATE, body=PriorityOperation))
async def prioritize_tasks(request: Request) -> BatchReport:
    """Those that have not started. With dry_run they are only counted."""
    body = await parse_body(request, PriorityOperation)
    return await _operate(request, "priority", body, TaskPriority.parse(body.priority))


async def _operate(request: Request, operation: Operation, body: BatchOperation,
                   priority: TaskPriority = TaskPriority.NORMAL) -> BatchReport:
    allow_time(request, BATCH_S)
    context = context_of(request)
    report = await context.threads.run(_apply, context, principal_of(request), operation, body, priority)
    request.scope["audit"] = {"matched": report.matched, "done": report.done, "dry_run": report.dry_run}
    return report


def _apply(context: ApiContext, principal: Principal, operation: Operation, body: BatchOperation,
          priority: TaskPriority) -> BatchReport:
    able, is_complete = context.operations.select(body.filter.wanted(principal.queues), operation, body.limit)
    done = 0 if body.dry_run else context.operations.apply(able, operation, reason=body.reason, priority=priority)
    return BatchReport(matched=len(able), done=done, dry_run=body.dry_run, is_complete=is_complete)


