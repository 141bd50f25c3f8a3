"""`/scheduler`: the engine as a whole."""

import time
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import Query
from starlette.requests import Request
from starlette.responses import Response

from engine.errors import InvalidOption
from engine.ports.engine_log import LEVELS
from engine.services.api.context import ApiContext, context_of, principal_of
from engine.services.api.http.authentication import Role
from engine.services.api.http.problems import HttpError
from engine.services.api.http.route import api_router, parse_body, route_spec
from engine.services.api.models.base import EVENT_ID, Asked
from engine.services.api.models.events import EngineLogEntry, EngineLogPage
from engine.services.api.models.scheduler import (
    Figures,
    SchedulerControl,
    SchedulerControlled,
    SchedulerHealth,
    SchedulerMetrics,
    SchedulerStatus,
)
from engine.services.composition import engine_version
from engine.services.metrics import window

LOOKED_AT_MAX = 20_000  # lines of the log for one page
router = api_router("scheduler")
Level = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]


@router.post("/scheduler/control", status_code=202, summary="Control the engine", **route_spec(
    Role.ADMIN, 409, body=SchedulerControl))
async def control_scheduler(request: Request) -> SchedulerControlled:
    """start, stop, restart, pause, resume, drain or scale; 409 if no engine heard it."""
    principal_of(request).must_see_all()
    command = await parse_body(request, SchedulerControl)
    if command.action == "scale" and command.workers is None:
        raise InvalidOption("a scale needs `workers`", field="workers", limit="a whole number from 1 to 1024, or auto")
    request.scope["audit"] = command.model_dump(exclude_none=True)
    return await context_of(request).threads.run(_control, context_of(request), command)


def _control(context: ApiContext, command: SchedulerControl) -> SchedulerControlled:
    client = context.client
    if command.action in ("pause", "resume"):
        names = [stats.queue for stats in client.queues.stats()]
        for name in names:
            (client.queues.pause if command.action == "pause" else client.queues.resume)(name)
        return SchedulerControlled(action=command.action, engines=0, queues=len(names))
    more = {"workers": command.workers, "pool": command.pool} if command.action == "scale" else {}
    heard = client.engine.control({"do": command.action, **more})
    if not heard:
        raise HttpError(409, "no engine is running")
    return SchedulerControlled(action=command.action, engines=heard, queues=0)


@router.get("/scheduler/status", summary="What runs where, and what waits", **route_spec(Role.READ))
async def get_scheduler_status(request: Request) -> SchedulerStatus:
    """The pools with their slots, all processes, and the tasks by status."""
    principal_of(request).must_see_all()
    return await context_of(request).threads.run(_status, context_of(request))


def _status(context: ApiContext) -> SchedulerStatus:
    client = context.client
    pools, now_ms = context.metrics.reports(), client.engine.now_ms()
    slots = [slot for pool in pools for slot in pool["slots"]]
    queues = client.queues.stats()
    return SchedulerStatus(
        version=engine_version(), pools=pools, tree=client.workers.processes(),
        workers=sum(bool(s["pid"]) for s in slots),
        uptime_s=max((now_ms - pool["started_ms"] for pool in pools if "started_ms" in pool), default=0) / 1000,
        is_paused=bool(queues) and all(stats.paused for stats in queues),
        busy=sum(slot["state"] == "busy" for slot in slots), tasks=client.engine.task_counts(),
        counters=client.engine.counters(),
        api={"version": engine_version(), "uptime_s": round(time.time() - context.started_s, 3),
             "listeners": context.listeners, "wants_keys": context.authenticator.wants_keys})


@router.get("/scheduler/metrics", summary="How much, how well, how long", **route_spec(Role.READ))
async def get_scheduler_metrics(
    request: Request, window_s: Annotated[int, Query(ge=1, le=window.WINDOW_S_MAX)] = 300,
) -> SchedulerMetrics:
    """Throughput, success, times and resources of what ended within the window; by queue and by type."""
    principal_of(request).must_see_all()
    return await context_of(request).threads.run(_metrics, context_of(request), window_s)


def _metrics(context: ApiContext, window_s: int) -> SchedulerMetrics:
    metrics_window = context.metrics.window
    ends, counts = metrics_window.within(window_s), metrics_window.counts(window_s)
    ended = sum(counts[status] for status in ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT"))
    total = window.summarize(ends, window_s)._replace(ended=ended, per_s=round(ended / window_s, 3))
    processes = context.client.workers.processes()
    return SchedulerMetrics(
        window_s=window_s, since=datetime.fromtimestamp(metrics_window.since_s, UTC), total=_figures(total),
        by_queue={name: _figures(one) for name, one in window.summarize_by(
            ends, lambda end: end.queue, window_s).items()},
        by_type={name: _figures(one) for name, one in window.summarize_by(
            ends, lambda end: end.task_type, window_s).items()}, retries=counts["RETRYING"],
        timeouts=counts["TIMEOUT"], gaps=metrics_window.gaps,
        sampled=round(min(1.0, len(ends) / ended), 4) if ended else 1.0,
        cpu_percent=sum(one.get("cpu_percent") or 0 for one in processes),
        rss_bytes=sum(one.get("rss_bytes") or 0 for one in processes))


def _figures(summary: window.Summary) -> Figures:
    return Figures.model_validate({**summary._asdict(), "wait_s": summary.wait_s._asdict(),
                                   "run_s": summary.run_s._asdict()})


@router.get("/scheduler/health", summary="Whether it lives, and whether it is ready",
            **route_spec(Role.NONE, responses={503: {"model": SchedulerHealth, "description": "Not ready, and why."}}))
async def get_health(
    request: Request, probe: Annotated[Literal["live", "ready"], Query()] = "ready",
) -> SchedulerHealth:
    """`probe=live` is answered with 200 by any server that answers; `probe=ready` with 503 where tasks would wait."""
    reasons, degraded = await context_of(request).health.findings()
    state = SchedulerHealth(ready=not reasons, reasons=reasons, degraded=degraded)
    status = 503 if reasons and probe == "ready" else 200
    headers = {"Retry-After": "1"} if status == 503 else {}
    return Response(state.model_dump_json(), status, headers, "application/json")  # type: ignore[return-value]


@router.get("/scheduler/logs", summary="The engine's own log, the newest first", **route_spec(Role.ADMIN))
async def list_engine_logs(
    request: Request,
    level: Annotated[Level, Query(description="The least severe lines to return.")] = "INFO",
    since: Annotated[Asked | None, Query()] = None,
    until: Annotated[Asked | None, Query()] = None,
    process: Annotated[str | None, Query(max_length=100, description="Such as `root`, `keeper`, `pool default`.")]
        = None,
    before: Annotated[str | None, Query(pattern=EVENT_ID)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> EngineLogPage:
    """Of all its processes on all hosts: the last 10,000 lines that they wrote."""
    principal_of(request).must_see_all()
    context = context_of(request)
    return await context.threads.run(_logs, context, level, since, until, process, before, limit)


def _logs(context: ApiContext, level: str, since: datetime | None, until: datetime | None, process: str | None,
          before: str | None, limit: int) -> EngineLogPage:
    start = before or (f"{_ms(until) + 1}-0" if until is not None else "+")
    entries: list[EngineLogEntry] = []
    broker = context.broker
    rows = broker.engine_log(start, 0 if since is None else _ms(since))
    for looked_at, row in enumerate(rows):
        if looked_at >= LOOKED_AT_MAX:
            return EngineLogPage(entries=entries, next=row["id"])
        if LEVELS.get(str(row.get("level")), 0) >= LEVELS[level] and process in (None, row.get("process")):
            entries.append(_entry(row))
            if len(entries) == limit:
                return EngineLogPage(entries=entries, next=row["id"])
    return EngineLogPage(entries=entries)


def _ms(moment: datetime) -> int:
    return max(0, int((moment - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(milliseconds=1)))


def _entry(row: dict[str, Any]) -> EngineLogEntry:
    own = {"id", "at", "level", "logger", "process", "pid", "message"}
    return EngineLogEntry(**{name: value for name, value in row.items() if name in own},
                          facts={name: value for name, value in row.items() if name not in own})
