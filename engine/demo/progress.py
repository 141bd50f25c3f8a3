"""How far the demo is: a bar on a terminal, a plain line every two seconds elsewhere."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from engine.client.models import Task
from engine.core.task.lifecycle import TaskStatus
from engine.demo.findings import subject

LINE_EVERY_S = 2.0
BAR_WIDTH = 28
RUNS_WIDTH = 80 - BAR_WIDTH - len(" 123/334 0:00:12  ")


@dataclass(frozen=True, slots=True)
class Tally:
    """How many tasks are where, and some that run."""

    ended: int
    completed: int
    timeout: int
    failed: int
    running: list[str]

    @classmethod
    def of(cls, tasks: Iterable[Task]) -> "Tally":
        """Count the tasks by what they do."""
        known = list(tasks)
        running = [task for task in known if task.status is TaskStatus.RUNNING]
        return cls(
            ended=sum(task.status.is_final for task in known),
            completed=sum(task.status is TaskStatus.COMPLETED for task in known),
            timeout=sum(task.status is TaskStatus.TIMEOUT for task in known),
            failed=sum(task.status is TaskStatus.FAILED for task in known),
            running=[f"{task.task_type.removeprefix('misbehaving.')} {subject(task)}".strip() for task in running],
        )

    @property
    def ends(self) -> str:
        parts = [f"{self.completed} completed", f"{self.timeout} killed at their timeout" if self.timeout else "",
                 f"{self.failed} failed" if self.failed else ""]
        return ", ".join(part for part in parts if part)

    @property
    def runs(self) -> str:
        """Some of what runs, always equally wide, so that the bar stands still."""
        text = ", ".join(self.running)
        return f"{text:{RUNS_WIDTH}}" if len(text) <= RUNS_WIDTH else text[: RUNS_WIDTH - 1] + "…"


class Display:
    def __init__(self, console: Console, total: int) -> None:
        self._console, self._total = console, total
        self._started_s = time.monotonic()
        self._next_line_s = self._started_s + LINE_EVERY_S
        self._progress = Progress(
            BarColumn(BAR_WIDTH), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("[dim]{task.description}"),
            console=console, transient=True, disable=not console.is_terminal)
        self._bar = self._progress.add_task("starting", total=total)

    def __enter__(self) -> "Display":
        self._progress.start()
        return self

    def update(self, tally: Tally) -> None:
        """Show the latest count."""
        self._progress.update(self._bar, completed=tally.ended, description=tally.runs)
        now_s = time.monotonic()
        if not self._console.is_terminal and (now_s >= self._next_line_s or tally.ended == self._total):
            self._next_line_s = now_s + LINE_EVERY_S
            self._console.print(f"{now_s - self._started_s:5.1f} s  {tally.ended} of {self._total} ended: {tally.ends}")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._progress.stop()
