"""`/workers`: each worker with its task, its CPU and memory, and its stack; and how to replace it."""

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Path
from starlette.requests import Request

from engine.core.measure.usage_history import past
from engine.errors import EngineError
from engine.services.api.context import ApiContext, context_of, principal_of
from engine.services.api.http.authentication import Role
from engine.services.api.http.problems import HttpError
from engine.services.api.http.route import api_router, parse_body, route_spec
from engine.services.api.models.scheduler import Sample, Worker, WorkerDetail, WorkerOrder, WorkerStack, WorkerTold

STACK_S = 8.0  # for the stacks to come
router = api_router("workers")
Supervisor = Annotated[str, Path(max_length=100, pattern=r"^[A-Za-z0-9._-]+$", examples=["host.default.3f9a1c"])]
Slot = Annotated[int, Path(ge=0, le=1023, examples=[0])]


@router.get("/workers", summary="Every worker, and what it runs", **route_spec(Role.READ))
async def list_workers(request: Request) -> list[Worker]:
    """Of all pools on all hosts, with their CPU and memory now."""
    context = context_of(request)
    principal_of(request).must_see_all()
    reports = await context.threads.run(context.metrics.reports)
    return [Worker(**_facts(report, slot)) for report in reports for slot in report["slots"]]


@router.get("/workers/{supervisor}/{slot}", summary="A worker, with its last hour", **route_spec(Role.READ, 404))
async def get_worker(request: Request, supervisor: Supervisor, slot: Slot) -> WorkerDetail:
    """What its slot has used, a row for every ten seconds."""
    context = context_of(request)
    principal_of(request).must_see_all()
    report, found = await _find(context, supervisor, slot)
    entries = await context.threads.run(
        context.client.workers.usage_history, str(report.get("host")), report.get("root_pid") or 0)
    history = [Sample(at=datetime.fromtimestamp(row.pop("at_ms") / 1000, UTC), **row)
               for row in past(entries, f"worker {report.get('pool')}/{slot}")]
    return WorkerDetail(**_facts(report, found), history=history)


@router.post("/workers/{supervisor}/{slot}/stack", summary="Where every thread of a worker is", **route_spec(
    Role.OPERATE, 404, 409))
async def get_worker_stack(request: Request, supervisor: Supervisor, slot: Slot) -> WorkerStack:
    """Its Python stacks; it goes on."""
    context = context_of(request)
    principal_of(request).must_see_all()
    facts = _facts(*await _find(context, supervisor, slot))
    try:
        stacks = await context.threads.run(context.client.workers.stacks, supervisor, slot, STACK_S)
    except EngineError as error:  # it has gone, or is too busy to say
        raise HttpError(409, str(error)) from None
    return WorkerStack(id=facts["id"], stacks=stacks)


@router.post("/workers/{supervisor}/{slot}/restart", status_code=202, summary="Replace a worker",
             **route_spec(Role.OPERATE, 404, body=WorkerOrder, body_required=False))
async def restart_worker(request: Request, supervisor: Supervisor, slot: Slot) -> WorkerTold:
    """After its task; with at_once now, and its task is queued again without a charge."""
    context = context_of(request)
    principal_of(request).must_see_all()
    order = await parse_body(request, WorkerOrder, required=False)
    facts = _facts(*await _find(context, supervisor, slot))
    command = {"do": "restart", "slot": slot, "at_once": order.at_once}
    if not await context.threads.run(context.client.workers.send, supervisor, command):
        raise HttpError(404, "this supervisor is gone")
    return WorkerTold(id=facts["id"], order="restart")


async def _find(context: ApiContext, supervisor: str, slot: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """A supervisor's report, and what it tells of the slot. Raises `HttpError`."""
    for report in await context.threads.run(context.metrics.reports):
        for one in report["slots"]:
            if (report["supervisor"], one["slot"]) == (supervisor, slot):
                return report, one
    raise HttpError(404, f"there is no worker {supervisor}/{slot}")


def _facts(report: dict[str, Any], slot: dict[str, Any]) -> dict[str, Any]:
    names = ("slot", "pid", "state", "served", "restarts", "last_death", "frozen", "has_place", "task", "cpu_percent",
             "rss_bytes", "pss_bytes", "threads", "open_files", "read_bytes_per_s", "write_bytes_per_s",
             "context_switches_per_s")
    return {"id": f"{report['supervisor']}/{slot['slot']}", "supervisor": report["supervisor"],
            "pool": report.get("pool"), "host": report.get("host"), **{name: slot.get(name) for name in names}}
