"""What a process that has just been forked from the fork server does to become a worker, in this order.

1. Its own session, death with the fork server, adoption of its own orphans.
2. Descriptors 1 and 2 on the pipe for output; the fork server's own closed.
3. Signals as any program has them, save SIGUSR1 (soft interrupts) and SIGUSR2 (stack dumps).
4. Stack dumps from C code alone, so that they come with the GIL held. The end of a dump is marked by a byte on the
   control socket: faulthandler calls the handler before its own, which is CPython's, also in C, and that writes the
   signal's number to the wakeup descriptor.
5. Capture of output; then the loop.
"""

import faulthandler
import gc
import logging
import os
import signal
import sys
import traceback
from dataclasses import dataclass
from os import write
from signal import set_wakeup_fd
from signal import signal as set_handler
from typing import NoReturn

from engine.adapters.process import limits
from engine.adapters.process.child import Worker, WorkerSettings
from engine.adapters.process.routes import Route
from engine.adapters.process.title import Title

_DEFAULTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGQUIT)


@dataclass(frozen=True, slots=True)
class Ends:
    """A worker's descriptors, in the order in which they are handed over."""

    tasks: int
    replies: int
    control: int
    output: int
    dump: int


def become_worker(ends: Ends, settings: WorkerSettings, routes: dict[bytes, Route], server: int,
                  title: str) -> NoReturn:
    """Never returns and never lets an exception out: above it on the stack is the fork server's own loop."""
    code = 1
    try:
        _leave_home(server)
        os.dup2(ends.output, 1)
        os.dup2(ends.output, 2)
        os.close(ends.output)
        for number in _DEFAULTS:
            set_handler(number, signal.SIG_DFL)
        _restart_gevent()
        worker = Worker(settings, routes, ends.tasks, ends.replies, ends.control, Title(title))
        worker.interrupts.install()
        _dump_to(ends.dump, ends.control)
        os.register_at_fork(after_in_child=lambda: _become_copy(worker, ends))
        worker.capture.install()
        gc.enable()
        signal.raise_signal(signal.SIGUSR1)  # an interrupt may have come before we listened
        worker.serve()
    except BaseException as error:  # noqa: BLE001
        code = error.code if isinstance(error, SystemExit) and isinstance(error.code, int) else 1
        write(2, traceback.format_exc().encode("utf-8", "replace"))
    finally:
        os._exit(code)


def _leave_home(server: int) -> None:
    os.setsid()
    limits.die_with_parent(signal.SIGKILL)
    if os.getppid() != server:  # it died before we had asked
        os._exit(1)
    limits.adopt_orphans()
    limits.be_first_to_go()


def _restart_gevent() -> None:
    """gevent does the first in its own os.fork() and the second in its own signal(): neither has been called."""
    gevent = sys.modules.get("gevent")
    if gevent is not None:
        gevent.reinit()
        gevent.get_hub().loop.reset_sigchld()


def _dump_to(fd: int, marks: int) -> None:
    set_wakeup_fd(marks, warn_on_full_buffer=False)
    set_handler(signal.SIGUSR2, lambda number, frame: None)
    faulthandler.enable(fd)
    faulthandler.register(signal.SIGUSR2, fd, all_threads=True, chain=True)


def _become_copy(worker: Worker, ends: Ends) -> None:
    """In a process that a handler has forked: it has no part in our pipes, and prints like any program."""
    if worker.is_copy:
        return  # a fork of a fork: those descriptors have been given back long ago
    worker.is_copy = True
    set_wakeup_fd(-1)
    set_handler(signal.SIGUSR1, signal.SIG_IGN)
    faulthandler.unregister(signal.SIGUSR2)
    faulthandler.disable()
    for fd in (ends.tasks, ends.replies, ends.control, ends.dump):
        os.close(fd)
    sys.stdout = open(1, "w", encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", errors="replace", buffering=1, closefd=False)  # noqa: SIM115
    root = logging.getLogger()
    root.handlers[:] = [logging.StreamHandler(sys.stderr)]
