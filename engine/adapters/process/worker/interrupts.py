"""Soft interrupts of the run that a worker executes: SoftTimeout and TaskInterrupted, raised inside the handler.

An interrupt must hit the run it was meant for, and only the user's code:

1. The supervisor writes (token, reason) to the control pipe and sends SIGUSR1. The signal handler compares tokens.
2. `call` arms the token for the time in which the function is on the stack. CPython looks for signals when a function
   begins, on backward jumps and after calls; `call` has none of these between arming and the function's beginning,
   nor between its end and disarming, so nothing is raised beside it and nothing is lost before it.
3. While this package's own code runs inside the user's (a progress report, captured output), the interrupt comes a
   millisecond later; inside `shield()` it waits for the end of the block.
4. The pool also tells here for how long a run was suspended (`core/pool/preemption.py`); the run's clock leaves that
   out.
5. An interrupt swallowed by a finaliser or a callback from C ("Exception ignored in …") is raised again.
6. An event loop swallows what its callbacks and background tasks raise, except KeyboardInterrupt and SystemExit. So
   what is raised while one runs is a KeyboardInterrupt as well, and leaves the loop.
"""

import _thread
import signal
import sys
from _thread import start_new_thread
from collections.abc import Callable
from contextlib import suppress
from os import read
from signal import pthread_kill
from signal import signal as set_handler
from time import sleep
from types import FrameType, TracebackType
from typing import Any

from engine.adapters.process.own_frames import FOLDER
from engine.core.worker.frames import CONTROL, INTERRUPT_SOFT_TIMEOUT, WAS_SUSPENDED
from engine.errors import SoftTimeout, TaskInterrupted
from engine.tasks.context import Context

IDLE = -1
_NOBODY = -2
_AGAIN_S = 0.001
_OURS = FOLDER


class _SoftTimeoutOfLoop(SoftTimeout, KeyboardInterrupt):
    __qualname__ = __name__ = "SoftTimeout"


class _InterruptedOfLoop(TaskInterrupted, KeyboardInterrupt):
    __qualname__ = __name__ = "TaskInterrupted"


class Interrupts:
    """Which token runs now, and which was last asked to end."""

    __slots__ = ("_control", "asked", "context", "depth", "main", "reason", "suspended", "suspended_s", "token")

    def __init__(self, control: int) -> None:
        self._control = control
        self.main = _thread.get_ident()
        self.token = IDLE
        self.asked = _NOBODY
        self.reason = b""
        self.depth = 0  # of shields
        self.suspended, self.suspended_s = _NOBODY, 0.0  # the run that was suspended last, and for how long in all
        self.context: tuple[int, Context] | None = None  # of the last run that wanted one, with its token

    def listen(self) -> None:
        """Take SIGUSR1."""
        set_handler(signal.SIGUSR1, self._on_signal)

    def install(self) -> None:
        """Take SIGUSR1, and raise interrupts again that a finaliser has swallowed."""
        self.listen()
        usual = sys.unraisablehook
        sys.unraisablehook = lambda unraisable: self._not_ignored(unraisable, usual)

    def deliver(self) -> None:
        """Raise what was asked for."""
        self.asked = _NOBODY
        in_loop = _is_in_event_loop()
        if self.reason == INTERRUPT_SOFT_TIMEOUT:
            raise (_SoftTimeoutOfLoop if in_loop else SoftTimeout)("the soft timeout of this run is over")
        raise (_InterruptedOfLoop if in_loop else TaskInterrupted)("this task is being cancelled")

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        with suppress(BlockingIOError):
            while message := read(self._control, CONTROL.size):
                token, reason, suspended_s = CONTROL.unpack(message)
                if reason == WAS_SUSPENDED:
                    self._was_suspended(token, suspended_s)
                else:
                    self.asked, self.reason = token, reason
        if self.asked != self.token or self.depth:
            return
        if _in_user_code(frame):
            self.deliver()
        self._again_soon()

    def _was_suspended(self, token: int, suspended_s: float) -> None:
        if token != self.suspended:
            self.suspended, self.suspended_s = token, 0.0
        self.suspended_s += suspended_s
        if self.context is not None and self.context[0] == token and self.context[1].deadline_s is not None:
            self.context[1].deadline_s += suspended_s

    def _again_soon(self) -> None:
        with suppress(RuntimeError):  # no more threads: then the hard timeout has to do
            start_new_thread(self._send_again, ())

    def _send_again(self) -> None:
        sleep(_AGAIN_S)
        pthread_kill(self.main, signal.SIGUSR1)

    def _not_ignored(self, unraisable: Any, usual: Callable[[Any], Any]) -> None:
        if self.token != IDLE and isinstance(unraisable.exc_value, (SoftTimeout, TaskInterrupted)):
            self.asked = self.token
            self._again_soon()
        else:
            usual(unraisable)


class Shield:
    """`ctx.shield()`: holds interrupts off in the main thread; in other threads they never arrive anyway."""

    __slots__ = ("_interrupts", "_is_main")

    def __init__(self, interrupts: Interrupts) -> None:
        self._interrupts = interrupts
        self._is_main = _thread.get_ident() == interrupts.main

    def __enter__(self) -> None:
        if self._is_main:
            self._interrupts.depth += 1

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        interrupts = self._interrupts
        if self._is_main:
            interrupts.depth -= 1
            if interrupts.asked == interrupts.token and not interrupts.depth:
                interrupts.deliver()


def call(interrupts: Interrupts, token: int, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """Call the user's function with interrupts armed for `token`."""
    try:
        interrupts.depth = 0
        interrupts.token = token
        if interrupts.asked == token:
            interrupts.deliver()
        return function(*arguments)
    finally:
        interrupts.token = IDLE


def _in_user_code(frame: FrameType | None) -> bool:
    """Whether the user's function is on the stack and none of our own above it."""
    above = False
    while frame is not None:
        code = frame.f_code
        if code is call.__code__:
            return above
        if code.co_filename.startswith(_OURS):
            return False
        above, frame = True, frame.f_back
    return True  # a coroutine library switched stacks; the token is armed, so it is the user's


def _is_in_event_loop() -> bool:
    """Whether asyncio (uvloop too) or gevent runs in this thread."""
    events = sys.modules.get("asyncio.events")
    return (events is not None and events._get_running_loop() is not None) or "gevent.hub" in sys.modules
