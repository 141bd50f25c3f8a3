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
from signal import SIG_DFL, SIG_IGN, SIGUSR1, SIGUSR2, set_wakeup_fd
from signal import signal as set_handler
from typing import TYPE_CHECKING, NoReturn

from engine.adapters.process import limits
from engine.adapters.process.outcomes import traceback_of

if TYPE_CHECKING:
    from engine.adapters.process.child import Worker

_INTERRUPTED = 130  # as a shell tells of a program that SIGINT has ended


def become_copy(worker: "Worker", fds: tuple[int, ...]) -> None:
    """Called in the child of each fork; `fds` are the descriptors between the worker and its pool."""
    if worker.is_copy:
        return  # a fork of a fork: those descriptors have been given back long ago
    worker.is_copy = True
    set_wakeup_fd(-1)
    set_handler(SIGUSR1, SIG_IGN)
    faulthandler.unregister(SIGUSR2)
    set_handler(SIGUSR2, SIG_DFL)
    faulthandler.disable()
    for fd in fds:
        os.close(fd)
    worker.outbox.become_copy()
    worker.capture.become_copy()


def leave(error: BaseException | None) -> NoReturn:
    """End a copy that has come back from the handler, by a return (`error` is None) or by this exception."""
    code = 0 if error is None else _code_of(error)
    limits.flush_output()
    os._exit(code)


def _code_of(error: BaseException) -> int:
    if isinstance(error, SystemExit):
        if error.code is None or isinstance(error.code, int):
            return (error.code or 0) & 0xFF
        sys.stderr.write(f"{error.code}\n")
        return 1
    sys.stderr.write(traceback_of(error) or "".join(traceback.format_exception_only(error)))
    return _INTERRUPTED if isinstance(error, KeyboardInterrupt) else 1
