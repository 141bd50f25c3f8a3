"""The findings for people: one section for each question that a newcomer has, readable at 80 columns."""

import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from engine.client.models import Task
from engine.demo.findings import DemoFindings, Frame, Process, frames

WIDTH_MAX = 100
FRAMES_MAX = 4
LABEL_MAX = 40
PROCESSES_MAX = 12
MIB = 1 << 20


def summary(found: DemoFindings, leftovers: Sequence[str]) -> Group:
    """All sections that have something to say. `leftovers` are processes that should be gone and are not."""
    sections: list[tuple[str, RenderableType]] = [("What ran", _ran(found))]
    if found.hung:
        sections.append(("What hung, and where", _stacked(_hung(task, found) for task in found.hung)))
    if found.crashed:
        sections.append(("What crashed, and why", _stacked(_crashed(task, found) for task in found.crashed)))
    if found.failed or found.cancelled:
        sections.append(("What failed or was cancelled", _ends([*found.failed, *found.cancelled])))
    if found.retried:
        sections.append(("What was retried", _retried(found.retried)))
    sections.append(("What each process used", _used(found)))
    sections.append(("Was anything lost?", _verdict(found, leftovers)))
    sections.append(("What to try next", _next()))
    return Group(*(part for title, body in sections for part in _section(title, body)))


def _section(title: str, body: RenderableType) -> Iterator[RenderableType]:
    yield Text()
    yield Rule(Text(title, style="bold"), align="left", style="dim")
    yield Padding(body, (0, 0, 0, 2))


def _stacked(parts: Iterable[RenderableType]) -> Group:
    """One below the other with a line between."""
    lines: list[RenderableType] = []
    for part in parts:
        lines += [Text(), part]
    return Group(*lines[1:])


def _table(*headings: str, left: int = 1) -> Table:
    """A plain table: the first `left` columns are words, the others numbers."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="dim", border_style="dim")
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="left" if number < left else "right", no_wrap=number >= left)
    return table


def _ran(found: DemoFindings) -> RenderableType:
    table = _table("task type", "tasks", "CPU s", "mean ms", "slowest ms", "slowest")
    table.columns[-1].justify = "left"
    table.columns[-1].style = "dim"
    for kind in found.kinds:
        table.add_row(Text(kind.task_type, style="cyan"), str(kind.count), f"{kind.cpu_s:.2f}",
                      f"{1000 * kind.wall_s / kind.count:.0f}", f"{1000 * kind.slowest_s:.0f}",
                      textwrap.shorten(kind.slowest, 22, placeholder="…"))
    line = Text.assemble(
        (f"{found.total} tasks", "bold"), f" ended in {found.elapsed_s:.1f} s on {found.workers} workers, ",
        (f"{found.total / found.elapsed_s:.0f} a second", "bold"), f". {len(found.completed)} completed, with "
        f"{found.cpu_s:.1f} s of CPU; the others were made not to.")
    return Group(table, Text(), line)


def _hung(task: Task, found: DemoFindings) -> RenderableType:
    return Group(*_title(task, f"killed after {task.wall_s or 0:.1f} s", found),
                 _stack(frames(task)) or _indented("no stack: it did not answer the signal that asks for it", "dim"))


def _crashed(task: Task, found: DemoFindings) -> RenderableType:
    end = task.error.message if task.error else str(task.cause)
    stack = _stack(frames(task))
    return Group(*_title(task, end, found), *([stack] if stack else []))


def _title(task: Task, end: str, found: DemoFindings) -> Iterator[RenderableType]:
    yield Text.assemble((_short(task), "bold cyan"), "  ", (end, "red"))
    if about := found.about.get(task.task_type):
        yield _indented(about, "italic")


def _short(task: Task) -> str:
    return task.task_type.removeprefix("misbehaving.")


def _indented(text: str, style: str = "") -> Padding:
    return Padding(Text(text, style=style), (0, 0, 0, 2))


def _stack(stack: Sequence[Frame]) -> RenderableType | None:
    """The line on which it stood, marked, then who called it."""
    if not stack:
        return None
    labels = [f"{_file(frame)}:{frame.line} {frame.function}" for frame in stack[:FRAMES_MAX]]
    width = min(LABEL_MAX, max(map(len, labels)))
    text = Text(no_wrap=True, overflow="ellipsis")
    for number, (label, frame) in enumerate(zip(labels, stack, strict=False)):
        text.append("\n  " if number else "→ ", style="bold red")
        text.append(f"{label:{width}}  {frame.source}", style="dim" if number else "bold yellow")
    return Padding(text, (0, 0, 0, 2))


def _file(frame: Frame) -> str:
    return f"{frame.path.parent.name}/{frame.path.name}" if frame.path.stem == "__init__" else frame.path.name


def _ends(tasks: Sequence[Task]) -> RenderableType:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for task in tasks:
        error = f"{task.error.kind}: {task.error.message}" if task.error else str(task.cause)
        table.add_row(Text(_short(task), style="bold cyan"), Text(task.status, style="magenta"), Text(error))
    return table


def _retried(tasks: Sequence[Task]) -> RenderableType:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for task in tasks:
        lost = [f"{count} {word}{'s' if count > 1 else ''}"
                for count, word in ((task.attempts, "failure"), (task.crashes, "crash")) if count]
        story = f"{' and '.join(lost) or 'asked for another run'}, then {task.status} in run {task.run}"
        table.add_row(Text(_short(task), style="bold cyan"), Text(story.replace("crashs", "crashes")))
    return table


def _used(found: DemoFindings) -> RenderableType:
    table = _table("process", "pid", "tasks", "CPU s", "peak MiB")
    for process in found.processes[:PROCESSES_MAX]:
        _row(table, process, "")
    for process in sorted(found.gone, key=lambda process: -process.peak_bytes)[:PROCESSES_MAX]:
        _row(table, process, "dim")
    note = Text("Dim: workers that were killed or died, each replaced by a fresh one in milliseconds.", style="dim")
    return Group(table, Text(), note) if found.gone else table


def _row(table: Table, process: Process, style: str) -> None:
    table.add_row(process.name, str(process.pid), "" if process.tasks is None else str(process.tasks),
                  f"{process.cpu_s:.2f}", f"{process.peak_bytes / MIB:.0f}", style=style)


def _verdict(found: DemoFindings, leftovers: Sequence[str]) -> RenderableType:
    lines = []
    if found.unexpected:
        lines += [Text(f"✗ {sentence}", style="red") for sentence in found.unexpected]
    else:
        lines.append(Text(f"✓ No. All {found.total} tasks ended, each in the way it had to.", style="green"))
    if leftovers:
        lines += [Text(f"✗ still running: {name}", style="red") for name in leftovers]
    else:
        lines.append(Text("✓ Nothing is left running, and the temporary folder is gone.", style="green"))
    return Group(*lines)


def _next() -> RenderableType:
    ganger = _command()
    steps = (
        ("an engine with some of these handlers; its data stays in .ganger",
         f"{ganger} run --handlers ganger_handlers.pure_python"),
        ("in another terminal: a task for it", f"{ganger} submit primes --payload '{{\"below\": 1000000}}' --wait"),
        ("what every process does, live", f"{ganger} top"),
    )
    return _stacked(Group(Text(f"# {what}", style="dim"), Text(line, style="bold", no_wrap=True, overflow="ignore"))
                    for what, line in steps)


def _command() -> str:
    """How to call us from here: by name where that is on the PATH, else by the path of this environment."""
    beside = Path(sys.executable).with_name("ganger")
    if shutil.which("ganger") or not beside.exists():
        return "ganger"
    return str(beside.relative_to(Path.cwd())) if beside.is_relative_to(Path.cwd()) else str(beside)


def as_json(found: DemoFindings, leftovers: Sequence[str]) -> dict[str, object]:
    """The same for machines; `ok` is the verdict."""
    def plain(tasks: Sequence[Task]) -> list[object]:
        return [task.model_dump(mode="json") for task in tasks]

    return {
        "ok": not found.unexpected and not leftovers, "tasks": found.total, "elapsed_s": found.elapsed_s,
        "workers": found.workers, "completed": len(found.completed), "cpu_s": found.cpu_s,
        "tasks_per_s": found.total / found.elapsed_s, "hung": plain(found.hung), "crashed": plain(found.crashed),
        "failed": plain(found.failed), "cancelled": plain(found.cancelled), "retried": plain(found.retried),
        "processes": [{"name": process.name, "pid": process.pid, "tasks": process.tasks, "cpu_s": process.cpu_s,
                       "peak_rss_bytes": process.peak_bytes} for process in [*found.processes, *found.gone]],
        "unexpected": found.unexpected, "still_running": list(leftovers),
    }


def show(console: Console, found: DemoFindings, leftovers: Sequence[str]) -> None:
    """Print the summary, at most WIDTH_MAX columns wide."""
    console.print(summary(found, leftovers), width=min(console.width, WIDTH_MAX))
