"""Guards the engine against code that is imported or executed again only to find functions.

1. The fork server imports modules and executes the main script again to find the handlers. The first use of the engine
   (`Scheduler.start`, a Client) ends that with `MainCollected`: the code above it has been executed, and the code below
   it is for the real process.
2. A child that multiprocessing starts by "spawn" or "forkserver" executes the main script again to find functions. To
   use the engine there would start an engine inside the engine, or submit a task twice, so it raises `EngineError`.
3. In a worker a Client may be used, and `Scheduler.start` raises `EngineError`.
"""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import get_ident
from types import FrameType, ModuleType
from typing import ClassVar

from engine.errors import EngineError

TREE_MARK = "_GANGER_TREE"
"""A variable in the environment of all processes below a pool. Its name does not begin with "GANGER_", since a Client
in a handler would refuse it as an unknown setting."""


class MainCollected(BaseException):
    """Ends the import of a module or the execution of a main script in the fork server.

    It is a BaseException, so that no `except Exception` of the script catches it and goes on.
    """

    def __init__(self) -> None:
        super().__init__("no error: the engine executes this once more, up to here, to find the handlers")


class _State:
    is_collecting = False
    is_worker = False
    was_used = False  # whether the engine was used since the collection of handlers began
    main_thread: int | None = None  # the thread that executes the main script, while it does
    stopped: ClassVar[dict[str, ModuleType]] = {}  # modules whose import was ended, as far as they were executed


def collecting() -> bool:
    """Whether modules and scripts are executed only to find their handlers."""
    return _State.is_collecting


def set_collecting(active: bool) -> None:
    """The fork server calls it with True before it imports or executes anything, and with False afterwards."""
    _State.is_collecting, _State.was_used = active, False
    _State.stopped.clear()


def was_used() -> bool:
    """Whether collected code has reached its first use of the engine, even if it has caught the exception."""
    return _State.was_used


def enter_worker() -> None:
    """Note that this process is a worker from now on."""
    _State.is_worker = True


@contextmanager
def main_ends_with_its_threads() -> Iterator[None]:
    """While inside, a thread that uses the engine ends the main script too. Enter it in the main thread."""
    def end(number: int, frame: FrameType | None) -> None:
        raise MainCollected

    before = signal.signal(signal.SIGUSR1, end)
    _State.main_thread = get_ident()
    try:
        yield
    finally:
        _State.main_thread = None
        signal.signal(signal.SIGUSR1, before)


def check_use(what: str) -> None:
    """Call it before the engine is used.

    Args:
        what: what is used, for the message, such as "a Client".

    Raises:
        MainCollected: the code is executed only to find handlers.
        EngineError: the engine may not be used here; the message says why.
    """
    if _State.is_collecting:
        _State.was_used = True
        _State.stopped.update((name, module) for name, module in list(sys.modules.items()) if _is_importing(module))
        if _State.main_thread not in (None, get_ident()):  # a thread of the script: the script ends too
            signal.pthread_kill(_State.main_thread, signal.SIGUSR1)
        raise MainCollected
    process = sys.modules.get("multiprocessing.process")
    if process is not None and getattr(process.current_process(), "_inheriting", False):
        raise EngineError(f"{what} is used in a process that multiprocessing has started, while it executes the main "
                          "script again to find its functions: this would happen once for each such process. Put it "
                          'below `if __name__ == "__main__":`')


def check_start() -> None:
    """Call it before an engine is started. Raises as `check_use`, and `EngineError` inside another engine."""
    check_use("Scheduler.start()")
    process = sys.modules.get("multiprocessing.process")
    is_below = process is not None and process.parent_process() is not None and TREE_MARK in os.environ
    if _State.is_worker or is_below:
        raise EngineError("Scheduler.start() was called in a worker of a running engine, most likely because a handler "
                          "imports a module that calls it: an engine would run inside the engine. Use a Client there, "
                          "and call start() in a function that only the main program calls")


def resume_stopped() -> bool:
    """Make the modules whose import was ended importable, and return whether there were any.

    They have the names that they define above their use of the engine, as the main script has.
    """
    stopped = dict(_State.stopped)
    _State.stopped.clear()
    for name, module in stopped.items():
        if module.__spec__ is not None:
            module.__spec__._initializing = False  # type: ignore[attr-defined]
        sys.modules.setdefault(name, module)
    return bool(stopped)


def _is_importing(module: ModuleType) -> bool:
    return getattr(getattr(module, "__spec__", None), "_initializing", False) is True
