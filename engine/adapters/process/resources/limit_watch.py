"""Watches what the run of a worker uses: looks as often as its limits need, and reports when one is passed."""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

from engine.adapters.process.pool.timers import Timers
from engine.core.task.limits import SAMPLE_S_MIN, ExceededLimit, Limits, Usage, exceeded_limit, next_sample_s

_COST_SHARE = 20  # a look that cost much CPU time is not repeated before so many times as much


class UsageSource(Protocol):
    """Where the figures come from."""

    def look(self) -> Usage:
        """What is used now."""


class LimitWatch:
    """From the moment at which the first run with these limits is sent to `stop`. `exceeded` is called once at most."""

    def __init__(self, pid: int, limits: Limits, source: UsageSource, timers: Timers,
                 exceeded: Callable[[ExceededLimit], None]) -> None:
        self.limits, self._source, self._timers, self._exceeded = limits, source, timers, exceeded
        self._cores = len(os.sched_getaffinity(0))
        self._seen = Usage(0, 0, 0.0, 0)
        self.most_bytes = 0  # that a look has seen for certain
        if limits.nice:
            _step_back(pid, limits.nice)
        if limits.need_samples:  # what is over before anybody can look costs nothing
            timers.set(self._look, time.monotonic() + SAMPLE_S_MIN)

    def stop(self) -> None:
        """Look no more."""
        self._timers.set(self._look, None)

    def facts(self) -> dict[str, Any]:
        """For a post-mortem: the limits, and what was used at the last look."""
        return {"limits": self.limits.as_options(), "memory_bytes": self._seen.memory_bytes, "cpu_s": self._seen.cpu_s,
                "processes": self._seen.processes}

    def _look(self, now_s: float) -> None:
        begun_s = time.thread_time()
        self._seen = usage = self._source.look()
        self.most_bytes = max(self.most_bytes, usage.memory_bytes_min)
        found = exceeded_limit(self.limits, usage)
        if found is not None:
            self._exceeded(found)
            return
        rest_s = _COST_SHARE * (time.thread_time() - begun_s)
        self._timers.set(self._look, now_s + max(next_sample_s(self.limits, usage, self._cores), rest_s))


def _step_back(pid: int, nice: int) -> None:
    """All threads of a worker; those that it starts later inherit it, and so do processes."""
    with suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with suppress(ProcessLookupError, PermissionError):
                os.setpriority(os.PRIO_PROCESS, int(thread), max(nice, os.getpriority(os.PRIO_PROCESS, int(thread))))
