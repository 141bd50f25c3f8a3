"""What every kind of the keeper's work has in common, and how a refusal of Redis is kept to one kind of it.

A duty does its work in batches, and has a budget of time in each round. What it has not done then it goes on with in
the next round, so no duty keeps another waiting, however much there is to do.
"""

import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

from engine.errors import BrokerError, BrokerUnavailable, SchemaMismatch
from engine.ports.keeper_broker import PollResult

BATCH = 500  # tasks of one batch
LOG_S, LOGGED_MAX = 60.0, 100  # how often the same refusal is logged, and how many are remembered

errors = logging.getLogger("ganger.errors")


class Duty(ABC):
    """One kind of work. It is used by one thread, and is due by the clock, by what Redis says, or both.

    Args:
        monotonic_s: the clock by which it is due, in seconds.
    """

    name: ClassVar[str]
    period_s: ClassVar[float] = math.inf  # how often it is due by the clock alone
    budget_s: ClassVar[float] = 0.1  # its time in one round
    needs_lead: ClassVar[bool] = True  # False: each keeper does it, whichever leads

    def __init__(self, monotonic_s: Callable[[], float]) -> None:
        self._monotonic_s = monotonic_s
        self._due_s = math.inf if self.period_s == math.inf else -math.inf

    def learn(self, found: PollResult, now_ms: int) -> None:  # noqa: B027  most duties go by the clock
        """Take notice of what a look at Redis has found, at `now_ms` of Redis's clock."""

    def lose_contact(self) -> None:  # noqa: B027  most duties do not mind
        """Take notice that Redis was out of reach, or that this process stood still."""

    def is_due(self) -> bool:
        """Return whether there is something to do now."""
        return self._monotonic_s() >= self._due_s

    def wake_s(self) -> float:
        """Return when, by the monotonic clock, Redis is to be looked at for it; infinite where other looks will do."""
        return math.inf

    @abstractmethod
    def run(self) -> bool:
        """Work until all is done or the budget is spent.

        Returns: whether a round is to follow at once, since there is more to do.
        Raises: `BrokerError`.
        """


class BatchDuty(Duty):
    """A duty that does its work batch by batch."""

    def run(self) -> bool:
        """As `Duty.run`. What Redis refuses is tried again after the period, or when Redis says that it is due."""
        begun_s = self._monotonic_s()
        self._due_s = begun_s + self.period_s
        while self._do_batch():
            if self._monotonic_s() >= begun_s + self.budget_s:
                return True
        return False

    @abstractmethod
    def _do_batch(self) -> bool:
        """Do a bounded amount. Returns whether there is more. Raises `BrokerError`."""


class Refusals:
    """Keeps what Redis refuses to one attempt: it is logged once a minute, and passed to the `listeners`.

    Args:
        monotonic_s: a clock, in seconds.
    """

    def __init__(self, monotonic_s: Callable[[], float]) -> None:
        self._monotonic_s = monotonic_s
        self._logged_s: dict[str, float] = {}  # what was refused -> when that was logged last
        self.listeners: list[Callable[[BrokerError], None]] = []

    def attempt(self, work: Callable[[], bool]) -> bool:
        """Return what `work` returns, False if Redis refuses it.

        Raises: `BrokerUnavailable` and `SchemaMismatch`, which no other work would escape.
        """
        try:
            return work()
        except (BrokerUnavailable, SchemaMismatch):
            raise
        except BrokerError as error:
            self._log(str(error))
            self.tell(error)
            return False

    def tell(self, error: BrokerError) -> None:
        """Tell the listeners."""
        for listener in self.listeners:
            listener(error)

    def _log(self, reason: str) -> None:
        now_s = self._monotonic_s()
        if now_s < self._logged_s.get(reason, -math.inf) + LOG_S:
            return
        if len(self._logged_s) >= LOGGED_MAX:
            self._logged_s.clear()
        self._logged_s[reason] = now_s
        errors.error("Redis refused one of the keeper's duties; the others go on", extra={"reason": reason})
