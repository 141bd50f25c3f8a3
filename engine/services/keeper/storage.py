"""The keeper's look at Redis itself: whether it may delete tasks, and whether it can write what it is told.

1. A Redis that deletes tasks when its memory is full is refused at the start of an engine: the root is told.
2. While the engine runs, a fault is logged as an error when it begins, and the end of it too.
"""

import logging
import time
from collections.abc import Callable
from typing import Any

from engine.core.store.storage import eviction_fault, writing_fault
from engine.errors import BrokerError

LOOK_S = 30.0

errors = logging.getLogger("ganger.errors")


class StorageWatch:
    """`info` gives what Redis says of itself; `refuse` is told why the engine must not start."""

    def __init__(self, info: Callable[[], dict[str, Any]], refuse: Callable[[str], None], *, allow_eviction: bool,
                 monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._info, self._refuse, self._allow_eviction = info, refuse, allow_eviction
        self._monotonic_s = monotonic_s
        self._look_s = float("-inf")
        self._faults: set[str] = set()
        self._has_looked = False

    def look(self) -> None:
        """Ask Redis, if it is time to. Raises nothing: the rounds deal with a Redis that is away."""
        now_s = self._monotonic_s()
        if now_s < self._look_s:
            return
        self._look_s = now_s + LOOK_S
        try:
            info = self._info()
        except BrokerError:
            return
        evicts = None if self._allow_eviction else eviction_fault(info)
        if evicts is not None and not self._has_looked:
            self._refuse(evicts)
        self._has_looked = True
        self._tell({fault for fault in (evicts, writing_fault(info)) if fault is not None})

    def _tell(self, faults: set[str]) -> None:
        for fault in sorted(faults - self._faults):
            errors.error("Redis may lose tasks", extra={"reason": fault})
        for fault in sorted(self._faults - faults):
            errors.warning("Redis is well again", extra={"was": fault})
        self._faults = faults
