"""What is done once in the life of a worker: at its start before the first run, and at its end in good order.

At the start
1. What is to run at the end of the process is forgotten: it was registered before the fork, so it is the fork server's.
2. Connections that the imports have opened are ended in this process: see `inherited`.
3. The random generators of numpy and torch get seeds of their own: all workers have the same ones from the fork.
4. @on_worker_start.

At the end, in `stop_s` seconds all together
1. @on_worker_stop; 2. threads that are not daemons are waited for; 3. atexit; 4. files are flushed.
"""

import atexit
import logging
import os
import sys
import threading
import traceback
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

import orjson

from engine.adapters.kernel import open_files
from engine.adapters.process.forkserver import inherited
from engine.core.worker.frames import HOOK_FAILED, frame
from engine.tasks import worker_hooks

Post = Callable[[bytes], None]
_SEED_BYTES = 8
_SEED_MAX = (1 << 63) - 1
_TRACEBACK_CHARS_MAX = 16_384


class StartFailed(Exception):
    """A hook raised; the pool has been told."""


def begin(post: Post, *, forked: bool) -> None:
    """To be called before the first run. `forked`: the modules were imported before the fork. Raises `StartFailed`."""
    if forked:
        inherited.disconnect()
        _forget_exits()
        reseed()
    for hook in worker_hooks.AT_START:
        try:
            hook()
        except BaseException as error:
            _tell(post, hook, "on_worker_start", error)
            raise StartFailed(worker_hooks.name_of(hook)) from error


def end(post: Post, stop_s: float) -> NoReturn:
    """Ends the process, within `stop_s` seconds."""
    if worker_hooks.AT_STOP or atexit._ncallbacks() or threading.active_count() > 1:
        _StopTimer(post, stop_s).start()
        for hook in reversed(worker_hooks.AT_STOP):
            try:
                hook()
            except BaseException as error:  # noqa: BLE001  whatever it raises, the others have their turn
                _tell(post, hook, "on_worker_stop", error)
        with suppress(BaseException):
            threading._shutdown()  # type: ignore[attr-defined]
        with suppress(BaseException):
            atexit._run_exitfuncs()
    _leave()


def reseed() -> None:
    """Give numpy's and torch's global generators a seed of their own, where they are loaded.

    Python's own `random` does so itself after a fork.
    """
    if (numpy_random := sys.modules.get("numpy.random")) is not None:
        with suppress(Exception):  # user code may have replaced it
            numpy_random.seed()
    if (torch := sys.modules.get("torch")) is not None:
        with suppress(Exception):
            torch.default_generator.manual_seed(int.from_bytes(os.urandom(_SEED_BYTES), "little") & _SEED_MAX)


def _forget_exits() -> None:
    """As multiprocessing does in what it forks. `weakref.finalize` has a list of its own behind one atexit entry."""
    atexit._clear()
    with suppress(AttributeError):
        for one in list(weakref.finalize._registry):  # type: ignore[attr-defined]
            one.atexit = False
        weakref.finalize._registered_with_atexit = False  # type: ignore[attr-defined]


def _leave() -> NoReturn:
    with suppress(BaseException):
        logging.shutdown()
    with suppress(BaseException):
        open_files.flush()
    os._exit(0)


class _StopTimer(threading.Thread):
    """Ends the process when its time is up, whatever the main thread waits for; files are flushed all the same."""

    def __init__(self, post: Post, stop_s: float) -> None:
        super().__init__(name="worker stop", daemon=True)
        self._post, self._stop_s, self._main = post, stop_s, threading.get_ident()

    def run(self) -> None:
        threading.Event().wait(self._stop_s)
        frame_of_main = sys._current_frames().get(self._main)
        stack = "".join(traceback.format_stack(frame_of_main)) if frame_of_main is not None else ""
        self._post(failure("", "on_worker_stop", f"not done after {self._stop_s:g} s (worker_stop_s)", stack))
        _leave()


def _tell(post: Post, hook: Callable[[], Any], moment: str, error: BaseException) -> None:
    trace = traceback.format_exception(type(error), error, error.__traceback__ and error.__traceback__.tb_next)
    try:
        message = f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001  the user's __str__ may raise anything
        message = type(error).__name__
    post(failure(worker_hooks.name_of(hook), moment, message, "".join(trace)))


def failure(hook: str, moment: str, message: str, trace: str) -> bytes:
    """The frame that reports it; `moment` is "on_worker_start", "on_worker_stop" or "import"."""
    body = {"hook": hook, "moment": moment, "message": message, "traceback": trace[-_TRACEBACK_CHARS_MAX:]}
    text = {name: value.encode("utf-8", "replace").decode() for name, value in body.items()}
    return frame(HOOK_FAILED, 0, orjson.dumps(text))
