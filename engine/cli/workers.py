"""`ganger workers`: the pools that are alive, and what each of their workers does."""

from collections.abc import Iterator
from typing import Any

import typer

from engine.cli.output import duration, size
from engine.cli.session import Session, command
from engine.cli.snapshot import with_measurements

HEADINGS = ("pool", "host", "slot", "pid", "state", "CPU", "memory", "served", "restarts", "running", "type", "task")
RIGHT = ("slot", "pid", "CPU", "memory", "served", "restarts", "running")


def add_to(app: typer.Typer) -> None:
    command(app, "workers", examples="ganger workers\nganger workers --json | jq '.[].slots[].task'")(workers)


def workers(session: Session) -> None:
    """Show the pools and their workers: state, CPU, memory, the task that each runs and for how long."""
    with session.broker() as broker:
        supervisors = with_measurements(broker.supervisors(), broker.processes())
    if session.out.as_json:
        session.out.json(supervisors)
    elif supervisors:
        session.out.table(HEADINGS, rows(supervisors), right=RIGHT)
        for report in supervisors:
            for module, trace in (report.get("import_failures") or {}).items():
                last = trace.strip().splitlines()[-1] if trace.strip() else "no reason is known"
                session.out.note(f"pool {report.get('pool')}: cannot import {module}: {last}")
    else:
        session.out.note("no pool is running; start one: ganger run --handlers MODULE")


def rows(supervisors: list[dict[str, Any]]) -> Iterator[tuple[Any, ...]]:
    """One row for each slot."""
    for report in supervisors:
        pool = f"{report.get('pool')}{' (draining)' if report.get('draining') else ''}"
        for slot in report.get("slots", []):
            task = slot.get("task") or {}
            yield (pool, report.get("host"), slot.get("slot"), slot.get("pid") or "", slot.get("state"),
                   percent(slot.get("cpu_percent")), size(slot.get("rss_bytes")), slot.get("served"),
                   slot.get("restarts"), duration(task.get("running_s")), task.get("task_type"), task.get("id"))


def percent(value: float | None) -> str:
    return "" if value is None else f"{value:.0f} %"
