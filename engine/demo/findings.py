"""What happened in a demo, as plain data: from the tasks as their client sees them, to the rows of a summary."""

import linecache
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

from engine.client.models import Task
from engine.core.task.lifecycle import TaskStatus
from engine.core.task.outcome import Cause
from engine.demo.tasks import DemoTask

CRASHES = frozenset({Cause.KILLED, Cause.EXITED, Cause.OUT_OF_MEMORY, Cause.POISON})
_FRAME = re.compile(r'File "(?P<path>[^"]+)", line (?P<line>\d+),? in (?P<function>\S+)')
_ENGINE = Path(__file__).parents[1]
_THREAD_STARTS = ("_bootstrap", "_bootstrap_inner")  # where every thread but the main one begins


class Frame(NamedTuple):
    """One line of a stack."""

    path: Path
    line: int
    function: str
    source: str


@dataclass(frozen=True, slots=True)
class TaskTypeFindings:
    """All tasks of one type that completed."""

    task_type: str
    count: int
    cpu_s: float
    wall_s: float
    slowest_s: float
    slowest: str  # what it worked on


@dataclass(frozen=True, slots=True)
class Process:
    """One process of the tree, or one worker that is gone."""

    name: str
    pid: int
    cpu_s: float
    peak_bytes: int
    tasks: int | None = None  # of a worker


@dataclass(frozen=True, slots=True)
class DemoFindings:
    """All that came of a demo."""

    elapsed_s: float
    workers: int
    kinds: list[TaskTypeFindings]
    completed: list[Task]
    hung: list[Task]
    crashed: list[Task]
    failed: list[Task]
    cancelled: list[Task]
    retried: list[Task]
    unexpected: list[str]  # sentences; none when the engine did its duty
    about: dict[str, str] = field(default_factory=dict)  # what each task type does, as its handler says
    processes: list[Process] = field(default_factory=list)
    gone: list[Process] = field(default_factory=list)  # workers that were replaced

    @property
    def total(self) -> int:
        """How many tasks have ended."""
        return len(self.completed) + len(self.hung) + len(self.crashed) + len(self.failed) + len(self.cancelled)

    @property
    def cpu_s(self) -> float:
        """CPU seconds of all completed tasks."""
        return sum(task.cpu_s or 0.0 for task in self.completed)


def findings(demo_tasks: Sequence[DemoTask], tasks: Sequence[Task], *, elapsed_s: float, workers: int,
             about: dict[str, str] | None = None) -> DemoFindings:
    """Sort `tasks` by how they ended, and compare each with how it was to end: `demo_tasks`, in the same order."""
    completed = [task for task in tasks if task.status is TaskStatus.COMPLETED]
    crashed = [task for task in tasks if task.status is TaskStatus.FAILED and task.cause in CRASHES]
    return DemoFindings(
        elapsed_s=elapsed_s,
        workers=workers,
        kinds=_kinds(completed),
        completed=completed,
        hung=[task for task in tasks if task.status is TaskStatus.TIMEOUT],
        crashed=crashed,
        failed=[task for task in tasks if task.status is TaskStatus.FAILED and task not in crashed],
        cancelled=[task for task in tasks if task.status is TaskStatus.CANCELLED],
        retried=[task for task in tasks if task.run > 1],
        about=about or {},
        unexpected=[sentence for planned, task in zip(demo_tasks, tasks, strict=True)
                    if (sentence := _unexpected(planned, task))],
    )


def frames(task: Task) -> list[Frame]:
    """The handler's own part of a task's last stack, innermost first; empty where none could be taken."""
    return user_frames((task.post_mortem or {}).get("stacks") or "")


def user_frames(stacks: str) -> list[Frame]:
    """The frames of the main thread, which runs the handler, down to the engine's."""
    for part in re.split(r"\n\s*\n", stacks):
        thread = [_frame(found) for found in _FRAME.finditer(part)]
        if thread and thread[-1].function not in _THREAD_STARTS:
            return list(takewhile(lambda frame: not _is_engine(frame), thread))
    return []


def _frame(found: re.Match[str]) -> Frame:
    path, line = found["path"], int(found["line"])
    return Frame(Path(path), line, found["function"], linecache.getline(path, line).strip())


def _is_engine(frame: Frame) -> bool:
    return frame.path.is_relative_to(_ENGINE)


def subject(task: Task) -> str:
    """What a task worked on, in one short word."""
    payload = task.payload or {}
    for name in ("path", "root"):
        if name in payload:
            return Path(payload[name]).name
    return ", ".join(f"{name} {value}" for name, value in payload.items())


def _kinds(completed: Iterable[Task]) -> list[TaskTypeFindings]:
    by_type: dict[str, list[Task]] = {}
    for task in completed:
        if not task.task_type.startswith("misbehaving."):
            by_type.setdefault(task.task_type, []).append(task)
    kinds = []
    for task_type, tasks in by_type.items():
        slowest = max(tasks, key=lambda task: task.wall_s or 0.0)
        kinds.append(TaskTypeFindings(task_type, len(tasks), sum(task.cpu_s or 0.0 for task in tasks),
                          sum(task.wall_s or 0.0 for task in tasks), slowest.wall_s or 0.0, subject(slowest)))
    return sorted(kinds, key=lambda kind: -kind.cpu_s)


def _unexpected(planned: DemoTask, task: Task) -> str:
    if task.status is planned.end:
        return ""
    why = f": {task.error.kind}: {task.error.message}" if task.error else ""
    return f"{f'{task.task_type} {subject(task)}'.strip()} is {task.status}, not {planned.end}{why}"
