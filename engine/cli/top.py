"""`ganger top`: queues, workers and counters, live."""

import os
import select
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.cli.output import console, duration, styled
from engine.cli.session import Session, command
from engine.cli.snapshot import Snapshot, take
from engine.cli.workers import HEADINGS, RIGHT, rows
from engine.core.lifecycle import TaskStatus
from engine.core.priority import DESCENDING
from engine.errors import BrokerError

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

_QUIT = b"qQ\x03\x04"


def add_to(app: typer.Typer) -> None:
    command(app, "top", examples="ganger top\nganger top --once\nganger top --once --json")(top)


def top(
    session: Session,
    once: Annotated[bool, typer.Option("--once", help="Print it once and end.")] = False,
    interval: Annotated[float, typer.Option(metavar="SECONDS", min=0.1, max=60, help="Between two looks.")] = 1.0,
) -> None:
    """Watch the queues, the workers and what they run, live; q ends it."""
    with session.broker() as broker:
        snapshot = take(broker)
        if session.out.as_json:
            session.out.json(snapshot)
        elif once or not (sys.stdout.isatty() and sys.stdin.isatty()):
            console().print(picture(snapshot, None, ""))
        else:
            _watch(lambda: take(broker), snapshot, interval)


def _watch(look: Any, snapshot: Snapshot, interval: float) -> None:
    """Until q: draw, wait, look again. While Redis is away the last picture stays, and says so."""
    from rich.live import Live

    before: Snapshot | None = None
    trouble = ""
    with _keys(), Live(picture(snapshot, None, ""), screen=True, auto_refresh=False, console=console()) as live:
        while not _quit_within(interval):
            try:
                before, snapshot, trouble = snapshot, look(), ""
            except BrokerError as error:
                before, trouble = None, str(error)
            live.update(picture(snapshot, before, trouble), refresh=True)


@contextmanager
def _keys() -> Iterator[None]:
    """The terminal gives each key at once, without showing it."""
    import termios
    import tty

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _quit_within(seconds: float) -> bool:
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        if select.select([sys.stdin], [], [], left)[0]:
            keys = os.read(sys.stdin.fileno(), 64)
            if not keys or any(key in _QUIT for key in keys):
                return True
    return False


def picture(snapshot: Snapshot, before: Snapshot | None, trouble: str) -> "RenderableType":
    """One screen of it. `before` is the snapshot to count the rates from."""
    from rich.console import Group
    from rich.text import Text

    parts: list[Any] = [_counters(snapshot, before)]
    if trouble:
        parts.append(Text(f"Redis: {trouble}", style="bold red"))
    parts += [Text(), _queues(snapshot), Text(), _workers(snapshot)]
    return Group(*parts)


def _counters(snapshot: Snapshot, before: Snapshot | None) -> Any:
    from rich.text import Text

    line = Text("ganger", style="bold")
    for name in ("submitted", *(str(status) for status in TaskStatus if status.is_final), "crashed", "rescued"):
        count = snapshot.counters.get(name, 0)
        line.append(f"   {name.lower()} ", style="dim")
        line.append(f"{count}", style="default")
        if before is not None and (elapsed_s := (snapshot.now_ms - before.now_ms) / 1000) > 0:
            rate = (count - before.counters.get(name, 0)) / elapsed_s
            if rate > 0:
                line.append(f" {rate:.0f}/s", style="green")
    return line


def _queues(snapshot: Snapshot) -> "Table":
    names = [priority.name for priority in DESCENDING]
    return _table(("queue", "state", *names, "total", "oldest"), [
        (queue.queue, "paused" if queue.paused else "open", *(queue.queued.get(name) or "" for name in names),
         queue.total, duration(queue.oldest_s)) for queue in snapshot.queues], (*names, "total", "oldest"))


def _workers(snapshot: Snapshot) -> "Table":
    return _table(HEADINGS, list(rows(snapshot.supervisors)), RIGHT)


def _table(headings: tuple[str, ...], lines: list[tuple[Any, ...]], right: tuple[str, ...]) -> "Table":
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in headings:
        table.add_column(heading, justify="right" if heading in right else "left", no_wrap=True)
    for line in lines:
        table.add_row(*(styled(cell) for cell in line))
    return table
