"""The duty that goes through everything in Redis once a minute and puts right what contradicts itself.

It does a little in each round, and no round is begun for what is left. It begins anew after keys of a wrong type were
moved away, and when Redis's clock was set back: entries that were dated by the clock as it was would wait for too long.
"""

import logging
import math
from collections.abc import Callable
from typing import ClassVar

from engine.core.store.storage import is_of_wrong_type
from engine.errors import BrokerError
from engine.ports.keeper_broker import KeeperBroker, PollResult
from engine.services.keeper.duties.duty import Duty

SETTLED_S = 5.0  # supervisors renew their leases each second
SET_BACK_MS = 1000  # more than Redis's clock and our belief about it differ while nobody touches it

errors = logging.getLogger("ganger.errors")


class Audit(Duty):
    """Looks at some of everything, and repairs it."""

    name: ClassVar[str] = "audit"
    period_s: ClassVar[float] = 60.0

    def __init__(self, broker: KeeperBroker, monotonic_s: Callable[[], float]) -> None:
        super().__init__(monotonic_s)
        self._broker = broker
        self._cursor: object = None  # how far this pass has come
        self._ahead_ms = -math.inf  # Redis's clock before ours, when we looked last

    @property
    def is_under_way(self) -> bool:
        """Whether a pass has begun and not ended."""
        return self._cursor is not None

    def learn(self, found: PollResult, now_ms: int) -> None:
        """Begin anew where Redis's clock was set back."""
        ahead_ms = now_ms - self._monotonic_s() * 1000
        if ahead_ms < self._ahead_ms - SET_BACK_MS:
            self._due_s = -math.inf
        self._ahead_ms = ahead_ms

    def begin_in(self, seconds: float) -> None:
        """Begin the next pass in so many seconds."""
        self._cursor, self._due_s = None, self._monotonic_s() + seconds

    def is_due(self) -> bool:
        """Return whether a pass is under way, or is to begin."""
        return self.is_under_way or super().is_due()

    def run(self) -> bool:
        """As `Duty.run`; it asks for no round of its own."""
        begun_s = self._monotonic_s()
        if not self.is_under_way:
            self._due_s = begun_s + self.period_s
        while self._look_on() and self._monotonic_s() < begun_s + self.budget_s:
            pass
        return False

    def on_refusal(self, error: BrokerError) -> None:
        """Move away keys of a wrong type, and repair what that has cost once all supervisors have renewed."""
        if not is_of_wrong_type(error):
            return
        try:
            if self._broker.rename_misplaced():
                self.begin_in(SETTLED_S)
        except BrokerError as another:
            errors.error("keys of the wrong type could not be moved away", extra={"reason": str(another)})

    def _look_on(self) -> bool:
        """Look at some more. Returns whether this pass goes on."""
        result = self._broker.audit(self._cursor)
        self._cursor = result.cursor
        if result.repaired.get("misplaced"):
            self.begin_in(SETTLED_S)
        if any(count for what, count in result.repaired.items() if what != "flows"):
            errors.error("Redis contradicted itself and was mended", extra=dict(result.repaired))
        return self.is_under_way
