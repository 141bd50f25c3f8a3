"""What the root reports to the process that started it, and to the service manager, and when.

To the process that started it, once, on a descriptor: that the tree is ready, or why it is not.

    ready {"module": "traceback", …}    with the imports that failed, which the tree survives
    failed "reason"

To the service manager:

    READY      once the tree is up, and again at the end of each reload, whether it brought anything or not
    RELOADING  when a reload begins
    WATCHDOG   while the tree is healthy, three times in each period: see `ServiceNotices.feed`
    STOPPING   when it drains or gives up, with the time it will take at most
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterable

import orjson

from engine.adapters.kernel.service_manager import ServiceManager
from engine.core.tree.supervision import Supervision

_FEEDS = 3  # in a watchdog's period, so that one that is late does no harm


class Readiness:
    """Reports on the descriptor `fd`; None: to nobody."""

    def __init__(self, fd: int | None = None) -> None:
        self._fd = fd
        self._on_ready: Callable[[], None] = lambda: None
        self._awaited: set[str] = set()
        self._failures: dict[str, str] = {}
        self.is_ready = self._has_reported = False

    def expect(self, names: Iterable[str], on_ready: Callable[[], None]) -> None:
        """Wait for these children; `on_ready` is called once all of them are."""
        self._awaited, self._on_ready = set(names), on_ready

    def ready(self, name: str, failures: dict[str, str]) -> None:
        """A child is ready; `failures` are the tracebacks of its imports that failed, by module."""
        self._awaited.discard(name)
        self._failures.update(failures)
        if not self._awaited and not self.is_ready:
            self.is_ready = True
            self._on_ready()
            self._report(b"ready " + orjson.dumps(self._failures))

    def fail(self, reason: str) -> None:
        """Report that the tree does not come up."""
        self._report(b"failed " + orjson.dumps(reason))

    def _report(self, line: bytes) -> None:
        if self._has_reported or self._fd is None:
            return
        self._has_reported = True
        with contextlib.suppress(BrokenPipeError):
            os.write(self._fd, line + b"\n")
        os.close(self._fd)


class ServiceNotices:
    """Reports on the tree that `core` decides about."""

    def __init__(self, manager: ServiceManager, core: Supervision) -> None:
        self.manager, self.core = manager, core
        self._fed_s = float("-inf")
        self._said: str | None = None  # the status, while it is ours to say
        self._is_reloading = False

    def ready(self) -> None:
        """The tree is up."""
        self._said = self._status()
        self.manager.tell(READY=1, STATUS=self._said)

    def reloading(self) -> None:
        """A reload begins."""
        self._is_reloading, self._said = True, None
        self.manager.tell(RELOADING=1, MONOTONIC_USEC=time.monotonic_ns() // 1000, STATUS="reloading")

    def reloaded(self) -> None:
        """The reload is over, or has brought nothing: the log says which."""
        if self._is_reloading:
            self._is_reloading = False
            self.ready()

    def stopping(self, reason: str, patience_s: float) -> None:
        """`patience_s`: how long it may take."""
        self._said = None
        self.manager.tell(STOPPING=1, STATUS=reason, EXTEND_TIMEOUT_USEC=int(patience_s * 1e6))

    def feed(self, healthy: bool, now_s: float) -> None:
        """Tell the watchdog that all is well, if it is: our loop goes round, and no child hangs that we cannot end."""
        period_s = self.manager.watchdog_s
        if period_s is not None and healthy and now_s >= self._fed_s + period_s / _FEEDS:
            self._fed_s = now_s
            self.manager.tell(WATCHDOG=1)
        status = self._status() if healthy else "a child cannot be ended"
        if self._said not in (None, status):
            self._said = status
            self.manager.tell(STATUS=status)

    def _status(self) -> str:
        """Which children there are, and how often any had to be started again."""
        children = self.core.children.values()
        restarts = sum(child.restarts for child in children)
        return ", ".join(child.spec.name for child in children if child.wanted) + (
            f"; {restarts} restarts" if restarts else "")
