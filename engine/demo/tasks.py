"""Which tasks the demo runs, and how each of them is to end.

The input of the real ones is the source of Python's standard library: there is
no machine with Python that does not have it. The choice depends on nothing but
its files, so that two runs can be compared.
"""

import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.core.task.lifecycle import TaskStatus

HANDLERS = ("compress", "digest", "source", "text", "pure_python", "misbehaving")
MODULES = tuple(f"ganger_handlers.{name}" for name in HANDLERS)
NOT_SOURCE = frozenset({"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__"})
FILE_BYTES = range(2_000, 300_000)
METHODS = ("zlib", "bz2", "lzma")


@dataclass(frozen=True, slots=True)
class DemoTask:
    """One task of the demo, and the status it is to end with."""

    task_type: str
    payload: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    end: TaskStatus = TaskStatus.COMPLETED
    cancel: bool = False  # as soon as it is seen running

    @property
    def misbehaves(self) -> bool:
        """Whether it is one of the misbehaving tasks."""
        return self.task_type.startswith("misbehaving.")

    def submission(self) -> dict[str, Any]:
        """The arguments of a submit."""
        return {"task_type": self.task_type, "payload": self.payload, **self.options}


def misbehave(name: str, end: TaskStatus, *, cancel: bool = False, timeout: float | None = None,
              **payload: Any) -> DemoTask:
    """A task that misbehaves as the handler `misbehaving.<name>` does, and is to end so."""
    options = {} if timeout is None else {"timeout": timeout}
    return DemoTask(f"misbehaving.{name}", payload, options, end, cancel)


MISBEHAVING = (
    misbehave("hang_in_c", TaskStatus.TIMEOUT, timeout=2),
    misbehave("segfault", TaskStatus.FAILED),
    misbehave("fail_then_succeed", TaskStatus.COMPLETED, failures=2),
    misbehave("deadlock", TaskStatus.TIMEOUT, timeout=1.5),
    misbehave("kill_itself", TaskStatus.FAILED),
    misbehave("crash_then_succeed", TaskStatus.COMPLETED),
    misbehave("ignore_signals", TaskStatus.TIMEOUT, timeout=1.5),
    misbehave("exit_hard", TaskStatus.FAILED),
    misbehave("flood_stdout", TaskStatus.COMPLETED, lines=200_000),
    misbehave("fork_and_hang", TaskStatus.TIMEOUT, timeout=1.5),
    misbehave("raise_error", TaskStatus.FAILED, message="row 17 has no price"),
    misbehave("leak_memory", TaskStatus.COMPLETED, mib=256),
    misbehave("hang_in_sleep", TaskStatus.CANCELLED, cancel=True, timeout=60),
    misbehave("return_not_json", TaskStatus.FAILED),
)


def choose_demo_tasks(real: int, library: Path | None = None) -> list[DemoTask]:
    """`real` tasks on the files of the standard library, with the misbehaving ones spread among them."""
    chosen = real_tasks(real, library or Path(sysconfig.get_path("stdlib")))
    stride = max(1, len(chosen) * 3 // 4 // len(MISBEHAVING))
    for number, planned in enumerate(MISBEHAVING):
        chosen.insert(min(number * (stride + 1) + 2, len(chosen)), planned)
    return chosen


def real_tasks(count: int, library: Path) -> list[DemoTask]:
    """Of every ten tasks about five analyse a file, three compress one, one hashes and one searches a folder."""
    files = [path for path in _sources(library) if path.stat().st_size in FILE_BYTES]
    folders = sorted({path.parent for path in files} - {library})
    chosen = [DemoTask("mandelbrot", {"width": 300, "height": 200, "iterations": 100}),
              DemoTask("primes", {"below": 20_000_000})]
    for number in range(max(0, count - len(chosen))):
        file, folder = files[number * 7919 % len(files)], folders[number // 10 % len(folders)]
        if number % 10 < 5:
            chosen.append(DemoTask("analyse_source", {"path": str(file)}))
        elif number % 10 < 8:
            chosen.append(DemoTask("compress", {"path": str(file), "method": METHODS[number % len(METHODS)]}))
        elif number % 10 == 8:
            chosen.append(DemoTask("digest", {"path": str(folder), "pattern": "*.py"}))
        else:
            chosen.append(DemoTask("search_text", {"root": str(folder), "pattern": r"\b(TODO|FIXME|XXX)\b"}))
    return chosen


def _sources(library: Path) -> Iterator[Path]:
    for path in sorted(library.rglob("*.py")):
        if not NOT_SOURCE.intersection(path.relative_to(library).parts):
            yield path
