"""What a run has left in its process and would hurt the next one: put back between two runs.

Only what is cheap to look at, and what nobody leaves on purpose: timers that would go off in another run, signals
that are ignored, blocked or taken from the engine, replaced output streams, lowered limits.
"""

import resource
import sys
from collections.abc import Callable
from contextlib import suppress
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

from engine.adapters.kernel.signals import DEFERRED
from engine.adapters.process.worker.capture import OutputCapture

_LIMITS = (resource.RLIMIT_NOFILE, resource.RLIMIT_CPU, resource.RLIMIT_AS, resource.RLIMIT_FSIZE)


class Leftovers:
    """`install` takes the engine's own signals again. To be made when the process is as each run should find it."""

    def __init__(self, capture: OutputCapture, install: Callable[[], None]) -> None:
        self._capture, self._install = capture, install
        self._handlers = {number: getsignal(number) for number in (SIGUSR1, SIGUSR2, *DEFERRED)}
        self._limits = [(which, resource.getrlimit(which)) for which in _LIMITS]

    def put_back(self) -> None:
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
