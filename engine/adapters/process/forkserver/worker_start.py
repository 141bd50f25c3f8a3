"""What a process that has just been forked from the fork server does to become a worker, in this order.

1. Its own session, death with the fork server, adoption of its own orphans.
2. Descriptors 1 and 2 on the pipes for output; the fork server's own closed.
3. Signals as any program has them, save SIGUSR1 (soft interrupts), SIGUSR2 (stack dumps), and those that ask a program
   to end. The root decides whether a worker ends: it may have got the same signal, and drains then.
4. Stack dumps from C code alone, so that they come with the GIL held. The end of a dump is marked by a byte on the
   control socket: faulthandler calls the handler before its own, which is CPython's, also in C, and that writes the
   signal's number to the wakeup descriptor.
5. Capture of output; what `lifetime` does at the start; then the loop.
"""

import faulthandler
import gc
import os
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, fields
from errno import EBADF
from os import write
from signal import set_wakeup_fd
from signal import signal as set_handler
from types import FrameType
from typing import NoReturn

from engine.adapters.kernel import prctl, signals
from engine.adapters.kernel.prctl import move_up
from engine.adapters.kernel.signals import DEFERRED, deferred
from engine.adapters.process.between_runs.copies import ForkHooks
from engine.adapters.process.forkserver.handler_table import LoadedHandler
from engine.adapters.process.resources.final_usage import Write
from engine.adapters.process.worker import lifetime
from engine.adapters.process.worker.process import WorkerLoop, WorkerSettings
from engine.adapters.process.worker.title import ProcessTitle
from engine.core.task.outcome import EXIT_DESCRIPTORS_CLOSED
from engine.tasks.import_guard import enter_worker

_DEFAULTS = (signal.SIGCHLD, signal.SIGQUIT)


@dataclass(frozen=True, slots=True)
class WorkerDescriptors:
    """A worker's descriptors, in the order in which they are handed over."""

    tasks: int
    replies: int
    control: int
    stdout: int
    stderr: int
    dump: int

    def all(self) -> list[int]:
        """The numbers, in order."""
        return [getattr(self, field.name) for field in fields(self)]

    def out_of_reach(self) -> "WorkerDescriptors":
        """Moved to high numbers. The next open() gets the lowest free one, so a handler that closes descriptors which
        are not its own can't get one of these for a file, to which the worker would then write its frames."""
        return WorkerDescriptors(*(move_up(getattr(self, field.name)) for field in fields(self)))


@dataclass(frozen=True, slots=True)
class WorkerStart:
    """What a process needs to become a worker.

    `load` fills `handlers` where each worker imports them itself; it may raise `StartFailed`.
    """

    settings: WorkerSettings
    handlers: dict[bytes, LoadedHandler]
    server: int  # pid of the fork server
    title: str
    write_mark: Write
    load: Callable[[dict[bytes, LoadedHandler], Callable[[bytes], None]], None] | None = None
    has_left_home: bool = False


def become_worker(ends: WorkerDescriptors, start: WorkerStart) -> NoReturn:
    """Never returns and never lets an exception out: above it on the stack is the fork server's own loop."""
    code = 1
    try:
        if not start.has_left_home:
            leave_home(start.server)
        os.dup2(ends.stdout, 1)
        os.dup2(ends.stderr, 2)
        ends = ends.out_of_reach()
        worker = WorkerLoop(start.settings, start.handlers, ends.tasks, ends.replies, ends.control,
                        (ends.stdout, ends.stderr), ProcessTitle(start.title), start.write_mark)
        if start.load is None:
            _restart_gevent()
        else:
            start.load(start.handlers, worker.outbox.post)
            signals.take_back()
        for number in _DEFAULTS:
            set_handler(number, signal.SIG_DFL)
        worker.interrupts.install()
        _take_signals(worker, ends)
        ForkHooks(worker, tuple(ends.all())).register()
        worker.capture.install()
        enter_worker()
        gc.enable()
        lifetime.begin(worker.outbox.post, forked=start.load is None)
        worker.capture.finish()
        signal.raise_signal(signal.SIGUSR1)  # an interrupt may have come before we listened
        worker.serve(lambda: _take_signals(worker, ends))
    except lifetime.StartFailed:  # the pool has been told of it
        pass
    except BaseException as error:  # noqa: BLE001
        closed = isinstance(error, OSError) and error.errno == EBADF  # nothing else ends like that: see Outbox
        code = EXIT_DESCRIPTORS_CLOSED if closed else 1
        write(2, traceback.format_exc().encode("utf-8", "replace"))
    finally:
        os._exit(code)


def leave_home(server: int) -> None:
    """Leave the session of the fork server `server`, a pid, and die with it."""
    os.setsid()
    prctl.die_with_parent(signal.SIGKILL)
    if os.getppid() != server:  # it died before we had asked
        os._exit(1)
    prctl.adopt_orphans()
    prctl.be_first_to_go()


def _restart_gevent() -> None:
    """gevent does the first in its own os.fork() and the second in its own signal(): neither has been called."""
    gevent = sys.modules.get("gevent")
    if gevent is not None:
        gevent.reinit()
        gevent.get_hub().loop.reset_sigchld()


def _take_signals(worker: WorkerLoop, ends: WorkerDescriptors) -> None:
    worker.interrupts.listen()
    for number in DEFERRED:
        set_handler(number, deferred)
    set_wakeup_fd(ends.control, warn_on_full_buffer=False)
    faulthandler.unregister(signal.SIGUSR2)  # else it would not install its handler again
    set_handler(signal.SIGUSR2, _nothing)
    faulthandler.enable(ends.dump)
    faulthandler.register(signal.SIGUSR2, ends.dump, all_threads=True, chain=True)


def _nothing(number: int, frame: FrameType | None) -> None:
    """The mark is written by CPython, before this."""
