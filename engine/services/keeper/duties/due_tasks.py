"""The duties that move tasks whose time has come: queue those that are due, end those that have expired, and so on.

Each is due at a moment that Redis names.
"""

import math
from collections.abc import Callable
from typing import ClassVar

from engine.ports.keeper_broker import KeeperBroker, PollResult
from engine.services.keeper.duties.duty import BATCH, BatchDuty

PAUSE_S = 0.05  # between two looks for the next task, where they follow each other closely


class CancelRequests(BatchDuty):
    """Ask again for the end of tasks that were to be cancelled while they ran, and whose runs were given back."""

    name: ClassVar[str] = "cancel requests"

    def __init__(self, broker: KeeperBroker, monotonic_s: Callable[[], float]) -> None:
        super().__init__(monotonic_s)
        self._broker = broker
        self._cursor: bytes | None = None

    def learn(self, found: PollResult, now_ms: int) -> None:
        """Due while there are such requests."""
        self._due_s = -math.inf if found.cancels else math.inf

    def _do_batch(self) -> bool:
        _, self._cursor = self._broker.reapply_cancel_requests(self._cursor)
        return self._cursor is not None


class _AtMoment(BatchDuty):
    """Moves the tasks of one sorted set, in the order of their moments."""

    def __init__(self, broker: KeeperBroker, monotonic_s: Callable[[], float]) -> None:
        super().__init__(monotonic_s)
        self._broker = broker

    def _due_at(self, moment_ms: float, now_ms: int) -> None:
        self._due_s = self._monotonic_s() + (moment_ms - now_ms) / 1000

    def wake_s(self) -> float:
        """Return the moment of the next task."""
        return self._due_s

    def _moved(self, tasks: int, next_ms: int | None) -> bool:
        """Note when the next one is due; return whether there are more that are due already."""
        if tasks >= BATCH:
            return True
        if next_ms is not None:
            self._due_at(next_ms, self._broker.now_ms())
            self._due_s = max(self._due_s, self._monotonic_s() + PAUSE_S)
        return False


class Promotion(_AtMoment):
    """Queue the tasks that are due: delayed ones, and those that are retried."""

    name: ClassVar[str] = "promotion"

    def learn(self, found: PollResult, now_ms: int) -> None:
        """Due when the first task is."""
        self._due_at(found.due_ms, now_ms)

    def _do_batch(self) -> bool:
        return self._moved(*self._broker.promote(BATCH))


class Expiry(_AtMoment):
    """End the tasks that nobody has started in time."""

    name: ClassVar[str] = "expiry"

    def learn(self, found: PollResult, now_ms: int) -> None:
        """Due when the first task expires."""
        self._due_at(found.expires_ms, now_ms)

    def _do_batch(self) -> bool:
        return self._moved(*self._broker.expire(BATCH))


class Removal(_AtMoment):
    """Remove the tasks that were kept long enough after their end. Nobody waits for it, so it wakes nobody."""

    name: ClassVar[str] = "removal"

    def learn(self, found: PollResult, now_ms: int) -> None:
        """Due when the first task is."""
        self._due_at(found.removal_ms, now_ms)

    def wake_s(self) -> float:
        """Other looks at Redis will do."""
        return math.inf

    def _do_batch(self) -> bool:
        return self._broker.sweep(BATCH)[0] >= BATCH
