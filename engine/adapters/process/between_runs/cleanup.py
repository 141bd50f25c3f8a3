"""What a worker does between two runs, after a reply and before the next task.

It does so once a second, and after each run that was long enough, or failed, to have left something behind.

1. Put back what a run has left in the process and would hurt the next one. Only what is cheap to look at, and what
   nobody leaves on purpose: timers that would go off in another run, signals that are ignored, blocked or taken from
   the engine, replaced output streams, lowered limits.
2. Look whether the process keeps more memory from run to run than it should, ten times a second. What counts is what
   only this process holds: neither files that it maps, nor what it shares in /dev/shm.
3. Reap orphans: see `orphans`.
"""

import gc
import os
import resource
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from signal import (
    ITIMER_REAL,
    SIG_BLOCK,
    SIG_DFL,
    SIG_IGN,
    SIG_UNBLOCK,
    SIGCHLD,
    SIGUSR1,
    SIGUSR2,
    getsignal,
    pthread_sigmask,
    setitimer,
)
from signal import signal as set_handler

import orjson

from engine.adapters.kernel.signals import DEFERRED
from engine.adapters.process.between_runs.orphans import Orphans
from engine.adapters.process.worker.capture import OutputCapture
from engine.adapters.process.worker.meter import Meter
from engine.core.worker.frames import GROWN, frame

LEAVES_S = 0.001  # a shorter run has hardly started a process
_CLEANUP_S = 1.0
_MEMORY_LOOK_S = 0.1
_NEVER = float("inf")
_PAGE_BYTES = os.sysconf("SC_PAGESIZE")
_LIMITS = (resource.RLIMIT_NOFILE, resource.RLIMIT_CPU, resource.RLIMIT_AS, resource.RLIMIT_FSIZE)


class Leftovers:
    """`install` takes the engine's own signals again. Make it when the process is as each run should find it."""

    def __init__(self, capture: OutputCapture, install: Callable[[], None]) -> None:
        self._capture, self._install = capture, install
        self._handlers = {number: getsignal(number) for number in (SIGUSR1, SIGUSR2, *DEFERRED)}
        self._limits = [(which, resource.getrlimit(which)) for which in _LIMITS]

    def put_back(self) -> None:
        """Put everything back."""
        setitimer(ITIMER_REAL, 0)
        if getsignal(SIGCHLD) is SIG_IGN:  # the kernel would throw the exit statuses of children away
            set_handler(SIGCHLD, SIG_DFL)
        for number, handler in self._handlers.items():
            if getsignal(number) != handler:
                self._install()
                break
        if blocked := pthread_sigmask(SIG_BLOCK, ()):
            pthread_sigmask(SIG_UNBLOCK, blocked)
        if sys.stdout is not self._capture.stdout:
            sys.stdout = self._capture.stdout
        if sys.stderr is not self._capture.stderr:
            sys.stderr = self._capture.stderr
        for which, (soft, hard) in self._limits:
            if resource.getrlimit(which) != (soft, hard):
                with suppress(ValueError, OSError):  # a hard limit that was lowered stays
                    resource.setrlimit(which, (soft, resource.getrlimit(which)[1]))


class MemoryGrowth:
    """Reports to the pool, once, that the worker holds over `bytes_max` more than at its start; 0: never.

    `post` sends a frame. `look_s` is the moment (time.monotonic) of the next look.
    """

    def __init__(self, bytes_max: int, post: Callable[[bytes], None]) -> None:
        self._bytes_max, self._post = bytes_max, post
        self._start_bytes = _held_bytes() if bytes_max else 0
        self.look_s = 0.0 if bytes_max else _NEVER

    def look(self, now_s: float) -> None:
        """Look now, and report what is too much."""
        self.look_s = now_s + _MEMORY_LOOK_S
        if not self._is_over():
            return
        gc.collect()  # what is only waiting for that is no growth
        if self._is_over():
            self.look_s = _NEVER
            self._post(frame(GROWN, 0, orjson.dumps({"bytes": _held_bytes() - self._start_bytes})))

    def _is_over(self) -> bool:
        return _held_bytes() > self._start_bytes + self._bytes_max


def _held_bytes() -> int:
    with open("/proc/self/statm", "rb") as file:
        fields = file.read().split()
    return (int(fields[1]) - int(fields[2])) * _PAGE_BYTES


@dataclass(slots=True)
class BetweenRuns:
    """All of it. `due_s` is the moment (time.monotonic) from which `clean_up` is to be called after a reply."""

    growth: MemoryGrowth
    leftovers: Leftovers
    orphans: Orphans
    meter: Meter
    due_s: float = 0.0

    def clean_up(self, now_s: float) -> None:
        """Do what is due. It waits while there are children and no task."""
        self.leftovers.put_back()
        if now_s >= self.growth.look_s:
            self.growth.look(now_s)
        self.due_s = min(now_s + _CLEANUP_S, self.growth.look_s)
        if self.orphans.reap():
            self.meter.forget_children()  # what orphans used is not the next run's
