"""`ganger workers`: the pools that are alive, what each of their workers does, and what they can be told."""

import time
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.cli.live import gauges
from engine.cli.output import counted, duration, size
from engine.cli.session import Session, command, with_common
from engine.core.measure.reports import with_measurements
from engine.core.measure.usage_history import ENTRY_S, past
from engine.core.task.lifecycle import TaskStatus
from engine.errors import InvalidOption, MoveRefused

if TYPE_CHECKING:
    from engine.client import Client

HEADINGS = ("pool", "host", "slot", "pid", "state", "CPU", "memory", "served", "restarts", "running", "type", "task")
LEAVE_OUT = ("host", "restarts", "served", "pid", "CPU", "memory", "pool", "running", "type")
MINUTES, MINUTES_MIN = 60, 12  # that a curve shows, a column each
_BESIDE_CURVE = 48  # columns of a terminal for what stands beside it
RIGHT = ("slot", "pid", "CPU", "memory", "served", "restarts", "running")
_REPORTED_S, _POLL_S = 5.0, 0.1
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


def add_to(app: typer.Typer) -> None:
    nouns = typer.Typer(help="Show the pools and their workers, and what each runs.", rich_markup_mode=None)
    nouns.callback(invoke_without_command=True)(with_common(list_workers))
    command(nouns, "list", examples="ganger workers\nganger workers --json | jq '.[].slots[].task'")(list_workers)
    command(nouns, "history", examples="ganger workers history\nganger workers history --json | jq '.[0].history[-1]'")(
        history)
    command(nouns, "level", examples="ganger workers level DEBUG\nganger workers level INFO --pool images")(set_level)
    command(nouns, "stack", examples="ganger workers stack ID")(stack)
    app.add_typer(nouns, name="workers")


def list_workers(session: Session) -> None:
    """Show the pools and their workers: state, CPU, memory, the task that each runs and for how long."""
    with session.client() as client:
        supervisors = with_measurements(client.workers.supervisors(alive_only=False), client.workers.processes())
    if session.out.as_json:
        session.out.json(supervisors)
    elif supervisors:
        session.out.table(HEADINGS, rows(supervisors), right=RIGHT, cut=("type",), leave_out=LEAVE_OUT)
        for report in supervisors:
            for stop in report.get("stopped") or []:
                session.out.note(f"pool {report.get('pool')}: {stop['task_type']} is stopped for another "
                                 f"{stop['for_s']:.0f} s: it has cost {stop['deaths']} workers")
            for module, trace in (report.get("import_failures") or {}).items():
                last = trace.strip().splitlines()[-1] if trace.strip() else "no reason is known"
                session.out.note(f"pool {report.get('pool')}: cannot import {module}: {last}")
    else:
        session.out.note("no pool is running; start one: ganger run --handlers MODULE")


def history(session: Session) -> None:
    """Show what each worker has used in the last hour: CPU as a curve, the peak of its memory, and its disk I/O.

    With --json: a row for every ten seconds.
    """
    with session.client() as client:
        told = list(_histories(client))
    if session.out.as_json:
        session.out.json(told)
    elif told:
        room = session.out.room
        minutes = MINUTES if room is None else min(MINUTES, max(MINUTES_MIN, room - _BESIDE_CURVE))
        headings = ("worker", "host", f"CPU, {minutes} min", "mean", "most", "memory", "written")
        shared = shared_names(list({one["supervisor"]: one for one in told}.values()))
        session.out.table(headings, (_past_row(one, minutes, shared) for one in told), right=headings[3:],
                          cut=("worker",), leave_out=("host", "written", "memory", "mean", "most"))
    else:
        session.out.note("no pool is running; start one: ganger run --handlers MODULE")


def _histories(client: "Client") -> Iterator[dict[str, Any]]:
    """{supervisor, pool, host, slot, history}, worker by worker."""
    for report in client.workers.supervisors(alive_only=False):
        entries = client.workers.usage_history(str(report.get("host")), report.get("root_pid") or 0)
        pool = report.get("pool")
        for slot in report.get("slots", []):
            yield {"supervisor": report["supervisor"], "pool": pool, "host": report.get("host"),
                   "slot": slot.get("slot"), "history": past(entries, f"worker {pool}/{slot.get('slot')}")}


def _past_row(told: dict[str, Any], minutes: int, shared: set[Any]) -> tuple[Any, ...]:
    rows = told["history"]
    cpu = [row["cpu_percent"] for row in rows if row["cpu_percent"] is not None]
    written = sum(row["write_bytes_per_s"] or 0 for row in rows) * ENTRY_S
    curve = gauges.sparkline(_by_minute(rows)[-minutes:], max([100.0, *cpu]))
    name = told["supervisor" if told["pool"] in shared else "pool"]
    return (f"{name}/{told['slot']}", told["host"], curve,
            percent(sum(cpu) / len(cpu) if cpu else None), percent(max(cpu, default=None)),
            size(max((row["rss_bytes"] or 0 for row in rows), default=None)), size(written))


def _by_minute(rows: list[dict[str, Any]]) -> list[float | None]:
    """The mean CPU of each of the last 60 minutes, the oldest first; None where there was nothing."""
    minutes: list[list[float]] = [[] for _ in range(MINUTES)]
    for row in rows:
        minute = (rows[-1]["at_ms"] - row["at_ms"]) // 60_000
        if 0 <= minute < MINUTES and row["cpu_percent"] is not None:
            minutes[MINUTES - 1 - minute].append(row["cpu_percent"])
    return [sum(seen) / len(seen) if seen else None for seen in minutes]


def set_level(
    session: Session, level: Annotated[str, typer.Argument(metavar="LEVEL", help="DEBUG, INFO, WARNING or ERROR.")],
    pool: Annotated[str | None, typer.Option(metavar="NAME", help="Only pools of this name.")] = None,
) -> None:
    """Change what running pools log, at once and until they end."""
    if level.upper() not in LEVELS:
        raise InvalidOption(f"level {level!r} is not one of {', '.join(LEVELS)}", field="level", value=level,
                            limit=", ".join(LEVELS))
    with session.client() as client:
        reports = client.workers.supervisors(alive_only=False)
        told = [report["supervisor"] for report in reports if pool in (None, report.get("pool"))
                and client.workers.send(report["supervisor"], {"do": "level", "level": level.upper()})]
    if session.out.as_json:
        session.out.json([{"supervisor": name, "level": level.upper()} for name in told])
    else:
        session.out.line(f"{counted(len(told), 'pool')} will log {level.upper()} and above")


def stack(
    session: Session, task_id: Annotated[str, typer.Argument(metavar="ID", help="Id of a running task.")],
) -> None:
    """Have the Python stacks of a running task written to its pool's log; the task goes on."""
    with session.client() as client:
        supervisor, slot = await_place(client, task_id)
        client.workers.send(supervisor, {"do": "stack", "slot": slot})
    if session.out.as_json:
        session.out.json({"id": task_id, "supervisor": supervisor, "slot": slot})
    else:
        session.out.line(f"asked {supervisor}; see its log")


def await_place(client: "Client", task_id: str) -> tuple[str, int]:
    """Who runs the task, and in which slot. A run that has just begun is in the next report only."""
    until = time.monotonic() + _REPORTED_S
    while True:
        status = client.tasks.status(task_id)
        place = where(client.workers.supervisors(alive_only=False), task_id)
        if place is not None:
            return place
        if status is not TaskStatus.RUNNING or time.monotonic() > until:
            raise MoveRefused(task_id, "see the stacks of", status)
        time.sleep(_POLL_S)


def where(supervisors: list[dict[str, Any]], task_id: str) -> tuple[str, int] | None:
    """The supervisor and the slot that run the task."""
    return next(((report["supervisor"], slot["slot"]) for report in supervisors for slot in report.get("slots", [])
                 if (slot.get("task") or {}).get("id") == task_id), None)


def rows(supervisors: list[dict[str, Any]]) -> Iterator[tuple[Any, ...]]:
    """One row for each slot. Pools that share a name have the ids of their supervisors, which commands take as well."""
    shared = shared_names(supervisors)
    for report in supervisors:
        state = "" if report.get("alive", True) else " (silent)"
        name = report.get("supervisor" if report.get("pool") in shared else "pool")
        pool = f"{name}{' (draining)' if report.get('draining') else state}"
        for slot in report.get("slots", []):
            task = slot.get("task") or {}
            yield (pool, report.get("host"), slot.get("slot"), slot.get("pid") or "", slot.get("state"),
                   percent(slot.get("cpu_percent")), size(slot.get("rss_bytes")), slot.get("served"),
                   slot.get("restarts"), duration(task.get("running_s")), task.get("task_type"), task.get("id"))


def shared_names(supervisors: list[dict[str, Any]]) -> set[Any]:
    """The names that several pools have, on one host or on many."""
    names = Counter(report.get("pool") for report in supervisors)
    return {name for name, count in names.items() if count > 1}


def percent(value: float | None) -> str:
    return "" if value is None else f"{value:.0f} %"
