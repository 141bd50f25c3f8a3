"""Where the user's code is executed without being the program, and may not use the engine.

1. The fork server imports modules and executes the main script again, only to find the handlers. The first use of the
   engine (`Scheduler.start`, a Client) ends that: everything above it is known, and what comes below is for the
   real process. `MainCollected` does it.
2. A child that multiprocessing starts by "spawn" or "forkserver" executes the main script again, to find functions.
   Using the engine there would start an engine inside the engine, or submit a task twice: it is refused in words.
3. In a worker a Client may be used, and `Scheduler.start` is refused.
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
"""In the environment of all processes below a pool. Not "GANGER_…": those are settings, and a Client in a handler
refuses an unknown one."""


class MainCollected(BaseException):
    """Ends the import of a module or the execution of a main script in the fork server.

    A BaseException, so that no `except Exception` of the script goes on to its work.
    """

    def __init__(self) -> None:
        super().__init__("no error: the engine executes this once more, up to here, to find the handlers")


class _State:
    is_collecting = False
    is_worker = False
    was_used = False  # the engine, since collecting began
    main_thread: int | None = None  # that executes the main script, while it does
    stopped: ClassVar[dict[str, ModuleType]] = {}  # modules whose import was ended, as far as they were executed


def collecting() -> bool:
    """Whether modules and scripts are executed only to find their handlers."""
    return _State.is_collecting


def set_collecting(active: bool) -> None:
    """The fork server says True before it imports or executes anything, and False after."""
    _State.is_collecting, _State.was_used = active, False
    _State.stopped.clear()


def was_used() -> bool:
    """Whether collected code has come to its first use of the engine, whatever became of the exception."""
    return _State.was_used


def enter_worker() -> None:
    """This process is a worker from here on."""
    _State.is_worker = True


@contextmanager
def main_ends_with_its_threads() -> Iterator[None]:
    """While inside, a thread that uses the engine ends the main script too. To be entered in the main thread."""
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
    """To be called before the engine is used. Raises `MainCollected`, or `EngineError` that says why it may not be.

    `what` is used, for the message: "a Client".
    """
    if _State.is_collecting:
        _State.was_used = True
        _State.stopped.update((name, module) for name, module in list(sys.modules.items()) if _is_importing(module))
        if _State.main_thread not in (None, get_ident()):  # a thread of the script's: the script itself is to end
            signal.pthread_kill(_State.main_thread, signal.SIGUSR1)
        raise MainCollected
    process = sys.modules.get("multiprocessing.process")
    if process is not None and getattr(process.current_process(), "_inheriting", False):
        raise EngineError(f"{what} is used in a process that multiprocessing has started, while it executes the main "
                          "script again to find its functions: this would happen once for each such process. Put it "
                          'below `if __name__ == "__main__":`')


def check_start() -> None:
    """To be called before an engine is started. Raises as `check_use`, and `EngineError` inside another engine."""
    check_use("Scheduler.start()")
    process = sys.modules.get("multiprocessing.process")
    is_below = process is not None and process.parent_process() is not None and TREE_MARK in os.environ
    if _State.is_worker or is_below:
        raise EngineError("Scheduler.start() was called in a worker of a running engine, most likely because a handler "
                          "imports a module that calls it: an engine would run inside the engine. Use a Client there, "
                          "and call start() in a function that only the main program calls")


def resume_stopped() -> bool:
    """Make the modules whose import was ended importable, as far as they were executed; False if there are none.

    As for the main script: what stands above the use of the engine is there, what stands below it is not.
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
