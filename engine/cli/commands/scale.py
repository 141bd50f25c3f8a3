"""`ganger scale`: how many workers a pool has, while it runs."""

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.cli.session import Session, command
from engine.errors import EngineError, InvalidOption, NotRunning

if TYPE_CHECKING:
    from engine.client import Client

WORKERS_MAX = 1024
_REPORTED_S, _POLL_S = 5.0, 0.1


def add_to(app: typer.Typer) -> None:
    command(app, "scale", examples="ganger scale 4\nganger scale auto\nganger scale 8 --pool images")(scale)


def scale(
    session: Session,
    workers: Annotated[str, typer.Argument(metavar="N|auto", help="How many workers; auto: as many as the load asks "
                                           "for, between scale_min and scale_max.")],
    pool: Annotated[str, typer.Option(metavar="NAME", help="Which pool, on every host that has one.")] = "default",
) -> None:
    """Give a pool more or fewer workers while it runs. No task is hurt: a worker too many ends its run first.

    This holds until the engine ends, also for a pool that is restarted.
    """
    asked = _asked(workers)
    with session.client() as client:
        before = {report["supervisor"]: report for report in _pools(client.workers.supervisors(), pool)}
        if not before:
            raise NotRunning(f"no pool {pool!r} is running")
        if not client.engine.control({"do": "scale", "workers": asked, "pool": pool}):
            raise EngineError("no engine is running")
        after = _await_reports(client, pool, before)
    if session.out.as_json:
        session.out.json([{"supervisor": report["supervisor"], "pool": pool, "scale": report.get("scale"),
                           "before": (before.get(report["supervisor"]) or {}).get("workers"),
                           "workers": report.get("workers")} for report in after])
        return
    for report in after:
        was = (before.get(report["supervisor"]) or {}).get("workers")
        how = ", as the load asks for from now on" if report.get("scale") == "auto" else ""
        session.out.line(f"pool {pool} on {report.get('host')}: {was} -> {report.get('workers')} workers{how}")


def _asked(text: str) -> int | str:
    if text == "auto":
        return text
    if text.isascii() and text.isdigit() and 1 <= int(text[:5]) <= WORKERS_MAX:
        return int(text)
    limit = f"a whole number from 1 to {WORKERS_MAX}, or auto"
    raise InvalidOption(f"{text!r} is no number of workers: {limit}", field="workers", value=text, limit=limit)


def _pools(reports: list[dict[str, Any]], pool: str) -> list[dict[str, Any]]:
    return [report for report in reports if report.get("pool") == pool and report.get("alive")
            and not report.get("draining")]


def _await_reports(client: "Client", pool: str, before: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """What the pools say of themselves once they have heard; what they said last, if that takes too long."""
    until_s = time.monotonic() + _REPORTED_S
    while True:
        found = _pools(client.workers.supervisors(), pool)
        heard = all(report.get("scaled", 0) > (before.get(report["supervisor"]) or {}).get("scaled", 0)
                    for report in found)
        if (found and heard) or time.monotonic() > until_s:
            return found
        time.sleep(_POLL_S)
