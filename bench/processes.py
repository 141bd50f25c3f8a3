"""The processes of an engine, and what each uses: CPU by the scheduler's own clock, memory by share."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil

from engine.scheduler import Scheduler

MIB = 1_048_576


@dataclass(frozen=True, slots=True)
class Tree:
    """The root and everything below it, by title."""

    root: psutil.Process
    below: list[psutil.Process]

    @classmethod
    def of(cls, scheduler: Scheduler) -> Self:
        pid = scheduler.status().pid
        assert pid is not None
        root = psutil.Process(pid)
        return cls(root, root.children(recursive=True))

    @property
    def titles(self) -> list[str]:
        return [_title(process) for process in self.below]

    @property
    def all(self) -> list[psutil.Process]:
        return [self.root, *self.below]

    @property
    def pools(self) -> list[psutil.Process]:
        return self._titled("ganger: pool")

    @property
    def workers(self) -> list[psutil.Process]:
        return self._titled("ganger: worker")

    def _titled(self, start: str) -> list[psutil.Process]:
        return [process for process in self.below if _title(process).startswith(start)]


def _title(process: psutil.Process) -> str:
    return " ".join(process.cmdline())


def cpu_s(process: psutil.Process) -> float:
    """CPU time of all its threads, to the nanosecond where the kernel says so, else in ticks of 10 ms."""
    try:
        rows = [file.read_text() for file in Path(f"/proc/{process.pid}/task").glob("*/schedstat")]
    except OSError:
        rows = []
    if rows:
        return sum(int(row.split()[0]) for row in rows) / 1e9
    times = process.cpu_times()
    return float(times.user + times.system)


def pss_mib(process: psutil.Process) -> float:
    """Memory of the process, where a page that several share counts in parts (/proc/<pid>/smaps_rollup)."""
    for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024 / MIB
    raise AssertionError("no line Pss in smaps_rollup")
