"""A module that does to its process what libraries do at import; WHAT names it. For the tests of the fork server."""

import _thread
import asyncio
import faulthandler
import os
import select
import signal
import sys
import threading
import time
from typing import Any, NoReturn

from engine import Context, SoftTimeout, handler


def _block() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())


def _ignore() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)


def _reap() -> None:
    """A thread that reaps all children, as some process managers have."""
    def forever() -> None:
        while True:
            try:
                os.wait()
            except ChildProcessError:
                time.sleep(0.001)

    threading.Thread(target=forever, daemon=True).start()


def _patch() -> None:
    """What gevent, eventlet and their like replace."""
    def refuse(*args: Any, **options: Any) -> NoReturn:
        raise AssertionError("the engine has called a function that the user's module has replaced")

    real = signal.signal
    os.fork = os.wait = os.waitpid = os.wait4 = os.read = os.write = os.pidfd_open = refuse  # type: ignore[assignment]
    select.poll = select.epoll = select.select = refuse  # type: ignore[assignment, misc]
    signal.signal = lambda number, action: None if number == signal.SIGCHLD else real(number, action)  # type: ignore
    signal.set_wakeup_fd = signal.pthread_sigmask = signal.setitimer = refuse  # type: ignore[assignment]
    _thread.start_new_thread = threading.Lock = threading.Thread = time.sleep = refuse  # type: ignore[assignment, misc]


def _alarm() -> None:
    signal.setitimer(signal.ITIMER_REAL, 0.3)


def _handle() -> None:
    """Handlers of its own for all signals, stack dumps of its own, and a loop that takes SIGCHLD."""
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        faulthandler.register(number)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        asyncio.new_event_loop().add_signal_handler(number, sys.exit, 1)


def _close() -> None:
    """What daemons do, and then files of its own in the place of what was closed."""
    os.closerange(3, 256)
    _FILES.extend(os.open(os.devnull, os.O_RDWR) for _ in range(20))


_FILES: list[int] = []

{"block": _block, "ignore": _ignore, "reap": _reap, "patch": _patch, "alarm": _alarm, "handle": _handle,
 "close": _close}[os.environ["WHAT"]]()


@handler("hang")
def hang(payload: Any, ctx: Context) -> None:
    ctx.progress(None, "here")
    while True:
        pass


@handler("soft")
def soft(payload: Any, ctx: Context) -> str:
    try:
        hang(payload, ctx)
    except SoftTimeout:
        return "cleaned up"
    return "not reached"


@handler("die")
def die(payload: int) -> None:
    os._exit(payload)
