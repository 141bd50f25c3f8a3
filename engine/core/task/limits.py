"""What one run may use, and whether it does: decided from figures that others have taken.

Figures are of the whole tree of the run: its worker and everything below it.
They come at moments that `next_look_s` names: the nearer a limit can be, the sooner.
"""

from dataclasses import dataclass, replace
from typing import Any

from engine.core.task.outcome import Cause

LOOK_S_MIN, LOOK_S_MAX = 0.010, 0.250
GROWTH_BYTES_S_MAX = 4_000_000_000  # how fast a tree may take memory without being seen too late: page faults on a core
FORKS_LOOK_S = 0.025
MIB = 1_048_576


@dataclass(frozen=True, slots=True)
class Limits:
    """0 is no limit. `nice` limits nothing by itself: it is how far the processes of the run step back for others."""

    memory_bytes: int = 0
    cpu_s: float = 0.0
    processes: int = 0
    nice: int = 0
    retry_memory_bytes: tuple[int, ...] = ()  # `memory_bytes` after the first, second … crash

    def after_crashes(self, crashes: int) -> "Limits":
        """What holds for a run of a task that has cost so many workers."""
        if not crashes or not self.retry_memory_bytes:
            return self
        return replace(self, memory_bytes=self.retry_memory_bytes[min(crashes, len(self.retry_memory_bytes)) - 1])

    @property
    def are_watched(self) -> bool:
        """Whether there is anything to look at while the run goes on."""
        return bool(self.memory_bytes or self.cpu_s or self.processes)

    @property
    def are_of_one_run(self) -> bool:
        """Whether they count from where a run begins, or cannot be taken back: not for several runs in one pipe."""
        return bool(self.cpu_s or self.nice)

    def as_options(self) -> dict[str, Any]:
        """Those that are set, by the names of the options, for people."""
        named = {"max_memory": self.memory_bytes, "max_cpu_seconds": self.cpu_s, "max_processes": self.processes,
                 "nice": self.nice}
        return {name: value for name, value in named.items() if value}


@dataclass(frozen=True, slots=True)
class Usage:
    """What a tree uses now; `cpu_s` since its run began.

    `memory_bytes` counts what its processes share once for each of them, so it is never too low; `memory_bytes_min`
    is never too high. They are the same where the figure is exact.
    """

    memory_bytes: int
    memory_bytes_min: int
    cpu_s: float
    processes: int


@dataclass(frozen=True, slots=True)
class ExceededLimit:
    """A limit that was passed."""

    cause: Cause
    message: str


def exceeded_limit(limits: Limits, usage: Usage) -> ExceededLimit | None:
    """The limit that the run has certainly passed, if any."""
    if limits.memory_bytes and usage.memory_bytes_min > limits.memory_bytes:
        return ExceededLimit(Cause.OUT_OF_MEMORY, f"it uses {_mib(usage.memory_bytes_min)} in "
                      f"{_count(usage.processes)}, over its max_memory of {_mib(limits.memory_bytes)}")
    if limits.cpu_s and usage.cpu_s > limits.cpu_s:
        return ExceededLimit(Cause.CPU_TIME, f"it has used {usage.cpu_s:.2f} CPU seconds, over its max_cpu_seconds of "
                      f"{limits.cpu_s:g}")
    if limits.processes and usage.processes > limits.processes:
        return ExceededLimit(Cause.PROCESSES, f"it has {_count(usage.processes)}, over its max_processes of "
                      f"{limits.processes}")
    return None


def is_doubtful(limits: Limits, usage: Usage) -> bool:
    """Whether it takes an exact figure of the memory to know."""
    return bool(limits.memory_bytes) and usage.memory_bytes_min <= limits.memory_bytes < usage.memory_bytes


def next_look_s(limits: Limits, usage: Usage, cores: int) -> float:
    """Seconds until somebody should look again: no limit can be passed much earlier than that."""
    wait_s = LOOK_S_MAX
    if limits.memory_bytes:
        wait_s = min(wait_s, (limits.memory_bytes - usage.memory_bytes) / GROWTH_BYTES_S_MAX)
    if limits.cpu_s:
        wait_s = min(wait_s, (limits.cpu_s - usage.cpu_s) / cores)
    if limits.processes:
        wait_s = min(wait_s, FORKS_LOOK_S)
    return max(LOOK_S_MIN, wait_s)


def _mib(size: int) -> str:
    return f"{size / MIB:,.1f} MiB"


def _count(processes: int) -> str:
    return "1 process" if processes == 1 else f"{processes} processes"
