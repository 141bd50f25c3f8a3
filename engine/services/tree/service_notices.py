"""What the root tells the service manager, and when.

READY      once the tree is up, and again at the end of each reload, whether it brought anything or not
RELOADING  when a reload begins
WATCHDOG   while the tree is healthy, three times in each period: see `ServiceNotices.feed`
STOPPING   when it drains or gives up, with the time it will take at most
"""

import time

from engine.adapters.kernel.service_manager import ServiceManager
from engine.core.tree.supervision import Supervision

_FEEDS = 3  # in a watchdog's period, so that one that is late does no harm


class ServiceNotices:
    def __init__(self, manager: ServiceManager, core: Supervision) -> None:
        self.manager, self.core = manager, core
        self._fed_s = float("-inf")
        self._said: str | None = None  # the status, while it is ours to say
        self._is_reloading = False

    def ready(self) -> None:
        self._said = self._status()
        self.manager.tell(READY=1, STATUS=self._said)

    def reloading(self) -> None:
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
