"""CPU time and peak memory of each run of a worker.

The kernel's clocks of a process cost over a microsecond a look, as much as a
short run. So a handler whose last run was shorter than SHORT_S is not measured:
its CPU time is told as its wall time, its peak as the last known one, which is
off by 0.1 ms and what can be allocated in it. If such a run turns out long, its
CPU time counts from the last look, and is at most its wall time.
"""

import os
import resource
import time

from engine.adapters.process.forkserver.handler_table import LoadedHandler
from engine.adapters.process.resources.final_usage import Write

SHORT_S = 0.0001
_LONG_S = 0.001  # shorter runs can't have waited for a child, nor grown much
_SLACK_BYTES = 16 << 20
_PAGE_BYTES = os.sysconf("SC_PAGESIZE")


class Meter:
    """`write` tells the pool what had been used when, for the case that the run does not end by itself."""

    def __init__(self, write: Write = lambda cpu_s, at_s: None) -> None:
        self._write = write
        self._mark_s = time.process_time()
        self._children_s = 0.0
        write(self._mark_s, time.monotonic())
        self._usual_peak_bytes = self.peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    def begin(self) -> None:
        """A run begins whose handler is `measured`."""
        self._mark_s = mark_s = time.process_time()
        self._write(mark_s + self._children_s, time.monotonic())

    def end(self, handler: LoadedHandler | None, wall_s: float) -> float:
        """CPU seconds of the run that has just ended; `peak_bytes` is its peak."""
        if handler is None:
            return wall_s
        if wall_s < SHORT_S:
            handler.measured = False
            return wall_s
        was_measured, handler.measured = handler.measured, True
        usage = resource.getrusage(resource.RUSAGE_SELF)
        now_s = usage.ru_utime + usage.ru_stime
        cpu_s, self._mark_s = max(0.0, now_s - self._mark_s), now_s
        if not was_measured:
            cpu_s = min(cpu_s, wall_s)
        self._write(now_s + self._children_s, time.monotonic())
        if wall_s > _LONG_S:
            self.peak_bytes = usage.ru_maxrss * 1024
            cpu_s += self._of_children()
            if self.peak_bytes > self._usual_peak_bytes + _SLACK_BYTES:
                self._lower_the_mark()
        return cpu_s

    def forget_children(self) -> None:
        """Children were reaped between two runs: count from here on."""
        self._of_children()

    def _of_children(self) -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        before_s, self._children_s = self._children_s, usage.ru_utime + usage.ru_stime
        self._write(self._mark_s + self._children_s, time.monotonic())
        return self._children_s - before_s

    def _lower_the_mark(self) -> None:
        """Reset the kernel's high-water mark where this run has left it high above what is used now."""
        try:
            with open("/proc/self/statm", "rb") as file:
                present_bytes = int(file.read().split()[1]) * _PAGE_BYTES
            if self.peak_bytes > present_bytes + _SLACK_BYTES:
                with open("/proc/self/clear_refs", "wb") as file:
                    file.write(b"5")
            self._usual_peak_bytes = present_bytes
        except OSError:  # a kernel without it: peaks are those of the worker's life
            self._usual_peak_bytes = self.peak_bytes
