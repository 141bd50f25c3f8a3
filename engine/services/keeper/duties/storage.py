"""The duty that looks at Redis itself: whether it may delete tasks, and whether it can write to its disk.

1. A Redis that deletes tasks when its memory is full is refused at the start of an engine: the root gets the reason.
2. While the engine runs, a fault is logged as an error when it begins, and the end of it too.
"""

import logging
import time
from collections.abc import Callable
from typing import Any, ClassVar

from engine.core.store.storage import eviction_fault, writing_fault
from engine.errors import BrokerError
from engine.services.keeper.duties.duty import Duty

errors = logging.getLogger("ganger.errors")


class StorageCheck(Duty):
    """Done by each keeper: an engine starts with its own.

    Args:
        info: gives what Redis says of itself.
        refuse: called with the reason why the engine must not start.
        allow_eviction: whether a Redis that deletes tasks will do.
    """

    name: ClassVar[str] = "storage check"
    period_s: ClassVar[float] = 30.0
    needs_lead: ClassVar[bool] = False

    def __init__(self, info: Callable[[], dict[str, Any]], refuse: Callable[[str], None], *, allow_eviction: bool,
                 monotonic_s: Callable[[], float] = time.monotonic) -> None:
        super().__init__(monotonic_s)
        self._info, self._refuse, self._allow_eviction = info, refuse, allow_eviction
        self._faults: set[str] = set()
        self._has_looked = False

    def run(self) -> bool:
        """Ask Redis. Raises nothing: the rounds deal with a Redis that is away."""
        self._due_s = self._monotonic_s() + self.period_s
        try:
            info = self._info()
        except BrokerError:
            return False
        evicts = None if self._allow_eviction else eviction_fault(info)
        if evicts is not None and not self._has_looked:
            self._refuse(evicts)
        self._has_looked = True
        self._log({fault for fault in (evicts, writing_fault(info)) if fault is not None})
        return False

    def _log(self, faults: set[str]) -> None:
        for fault in sorted(faults - self._faults):
            errors.error("Redis may lose tasks", extra={"reason": fault})
        for fault in sorted(self._faults - faults):
            errors.warning("Redis is well again", extra={"was": fault})
        self._faults = faults
