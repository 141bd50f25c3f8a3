"""The limits of a run, and the decision whether its use exceeds them.

A sample of the use counts the whole process tree of the run: its worker and all processes below it. Samples are taken
elsewhere, at moments that `next_sample_s` gives: the nearer a limit can be, the sooner.
"""

from dataclasses import dataclass, replace
from typing import Any

from engine.core.task.outcome import Cause

SAMPLE_S_MIN, SAMPLE_S_MAX = 0.010, 0.250
GROWTH_BYTES_PER_S_MAX = 4_000_000_000  # the most that a core can take by page faults
PROCESSES_SAMPLE_S = 0.025
MIB = 1_048_576


@dataclass(frozen=True, slots=True)
class Limits:
    """What a run may use with all that it starts. 0 is no limit.

    `nice` limits nothing: it is how far the processes of the run let others go first, 0 to 19. `retry_memory_bytes` is
    what `memory_bytes` becomes after the first, second … crash of the task.
    """

    memory_bytes: int = 0
    cpu_s: float = 0.0
    processes: int = 0
    nice: int = 0
    retry_memory_bytes: tuple[int, ...] = ()

    def after_crashes(self, crashes: int) -> "Limits":
        """Return the limits of a run of a task that has cost so many workers."""
        if not crashes or not self.retry_memory_bytes:
            return self
        return replace(self, memory_bytes=self.retry_memory_bytes[min(crashes, len(self.retry_memory_bytes)) - 1])

    @property
    def need_samples(self) -> bool:
        """Whether a run with these limits has to be sampled while it goes on."""
        return bool(self.memory_bytes or self.cpu_s or self.processes)

    @property
    def need_run_alone(self) -> bool:
        """Whether a run with these limits must not share its worker's pipe with runs that follow.

        CPU time counts from the start of a run, and a worker's nice value cannot be lowered again.
        """
        return bool(self.cpu_s or self.nice)

    def as_options(self) -> dict[str, Any]:
        """Return the limits that are set, by the names of the options."""
        named = {"max_memory": self.memory_bytes, "max_cpu_seconds": self.cpu_s, "max_processes": self.processes,
                 "nice": self.nice}
        return {name: value for name, value in named.items() if value}


@dataclass(frozen=True, slots=True)
class Usage:
    """One sample of what a process tree uses. `cpu_s` is CPU time in seconds since the run began.

    `memory_bytes` counts shared memory once for each process that shares it, so it is never too low.
    `memory_bytes_min` is never too high. They are equal where the sample is exact.
    """

    memory_bytes: int
    memory_bytes_min: int
    cpu_s: float
    processes: int


@dataclass(frozen=True, slots=True)
class ExceededLimit:
    """A limit that a run has exceeded: the cause of its end, and a sentence with both numbers."""

    cause: Cause
    message: str


def exceeded_limit(limits: Limits, usage: Usage) -> ExceededLimit | None:
    """Return the limit that the run has certainly exceeded, or None."""
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


def needs_exact_memory(limits: Limits, usage: Usage) -> bool:
    """Whether only an exact sample of the memory shows if the limit is exceeded."""
    return bool(limits.memory_bytes) and usage.memory_bytes_min <= limits.memory_bytes < usage.memory_bytes


def next_sample_s(limits: Limits, usage: Usage, cores: int) -> float:
    """Return the seconds until the next sample: no limit can be exceeded much earlier.

    Args:
        limits: the limits of the run.
        usage: the latest sample.
        cores: the cores that the run can use at a time.
    """
    wait_s = SAMPLE_S_MAX
    if limits.memory_bytes:
        wait_s = min(wait_s, (limits.memory_bytes - usage.memory_bytes) / GROWTH_BYTES_PER_S_MAX)
    if limits.cpu_s:
        wait_s = min(wait_s, (limits.cpu_s - usage.cpu_s) / cores)
    if limits.processes:
        wait_s = min(wait_s, PROCESSES_SAMPLE_S)
    return max(SAMPLE_S_MIN, wait_s)


def _mib(size: int) -> str:
    return f"{size / MIB:,.1f} MiB"


def _count(processes: int) -> str:
    return "1 process" if processes == 1 else f"{processes} processes"
