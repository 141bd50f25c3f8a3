"""A process that a handler has forked: a copy of its worker, with the engine's code, but with no part in the engine.

1. It writes no frames: its pipes to the pool are closed, and whatever kept their numbers knows that.
2. It prints like any program, to descriptors 1 and 2. Streams and log handlers that the worker made lead there too.
3. It has the signals of any program.
4. When it comes back through the engine's frames, it ends as Python would end it: with a traceback and code 1, or with
   the code of its SystemExit, and with its output flushed.
"""

import faulthandler
import os
import sys
import traceback
from contextlib import suppress
from signal import (
    SIG_BLOCK,
    SIG_DFL,
    SIG_IGN,
    SIG_SETMASK,
    SIGUSR1,
    SIGUSR2,
    getsignal,
    pthread_sigmask,
    set_wakeup_fd,
)
from signal import signal as set_handler
from threading import local
from typing import TYPE_CHECKING, NoReturn, Protocol

from engine.adapters.kernel import prctl
from engine.adapters.kernel.signals import DEFERRED, deferred
from engine.adapters.process.between_runs.orphans import children_of_thread
from engine.adapters.process.worker.outcomes import traceback_of

if TYPE_CHECKING:
    from engine.adapters.process.between_runs.orphans import Orphans
    from engine.adapters.process.worker.capture import OutputCapture
    from engine.adapters.process.worker.outbox import Outbox

_INTERRUPTED = 130  # as a shell tells of a program that SIGINT has ended


class ForkedWorker(Protocol):
    """What a copy changes of the worker that it is a copy of."""

    is_copy: bool  # whether this process is one
    outbox: "Outbox"
    capture: "OutputCapture"
    orphans: "Orphans"


class ForkHooks:
    """What a worker does around each fork of its handler. `fds` are the descriptors between it and its pool."""

    def __init__(self, worker: ForkedWorker, fds: tuple[int, ...]) -> None:
        self._worker, self._fds = worker, fds
        self._kept = local()  # of the thread that forks: its mask, and its children

    def register(self) -> None:
        """Have the hooks called around each os.fork() from now on."""
        os.register_at_fork(before=self._before, after_in_parent=self._after_in_parent,
                            after_in_child=self._after_in_child)

    def _before(self) -> None:
        """A signal that comes before the copy has its own handlers must wait, else it would be taken and forgotten."""
        self._kept.mask = pthread_sigmask(SIG_BLOCK, DEFERRED)
        self._kept.children = [] if self._worker.is_copy else children_of_thread()

    def _after_in_parent(self) -> None:
        pthread_sigmask(SIG_SETMASK, self._kept.mask)
        if not self._worker.is_copy:
            self._worker.orphans.forked(self._kept.children)

    def _after_in_child(self) -> None:
        if not self._worker.is_copy:  # in a fork of a fork, those descriptors have been given back long ago
            become_copy(self._worker, self._fds)
        pthread_sigmask(SIG_SETMASK, self._kept.mask)


def become_copy(worker: ForkedWorker, fds: tuple[int, ...]) -> None:
    """Leave the engine, as told above."""
    worker.is_copy = True
    set_wakeup_fd(-1)
    set_handler(SIGUSR1, SIG_IGN)
    faulthandler.unregister(SIGUSR2)
    set_handler(SIGUSR2, SIG_DFL)
    for number in DEFERRED:
        if getsignal(number) is deferred:  # and not a handler of the user's
            set_handler(number, SIG_DFL)
    faulthandler.disable()
    for fd in fds:
        with suppress(OSError):  # the handler may have closed it
            os.close(fd)
    worker.outbox.become_copy()
    worker.capture.become_copy()


def leave(error: BaseException | None) -> NoReturn:
    """End a copy that has come back from the handler, by a return (`error` is None) or by this exception."""
    code = 0 if error is None else _code_of(error)
    prctl.flush_output()
    os._exit(code)


def _code_of(error: BaseException) -> int:
    if isinstance(error, SystemExit):
        if error.code is None or isinstance(error.code, int):
            return (error.code or 0) & 0xFF
        sys.stderr.write(f"{error.code}\n")
        return 1
    sys.stderr.write(traceback_of(error) or "".join(traceback.format_exception_only(error)))
    return _INTERRUPTED if isinstance(error, KeyboardInterrupt) else 1
