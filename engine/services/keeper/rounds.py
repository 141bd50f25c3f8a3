"""The keeper's rounds. Any number of keepers may run; the one that leads acts, the others wait to take over.

A round
1. looks at Redis, if it is time to, and asks for the lead;
2. gives each duty that is due its time, the most important first;
3. says when the next round is needed.

Each duty has a budget, so that a load that brings more to be done than one round can do makes rounds follow each other
at once, and nothing else late. What the duties are is not known here: see `engine.services.keeper.duty_list`.
"""

import logging
import time
from collections.abc import Callable, Sequence

from engine.errors import BrokerError, BrokerUnavailable
from engine.ports.keeper_broker import KeeperBroker
from engine.services.keeper.duties.duty import Duty, Refusals

TICK_S = 1.0  # between two rounds: the processes of this host are looked at in each
POLL_S = 1.9  # between two looks at Redis, unless it rings or something is due: a lapsed lease is to be seen within 2 s
LEAD_S = 5.0  # a keeper that has not said so for this long has lost the lead

errors = logging.getLogger("ganger.errors")


class Rounds:
    """Used by one thread.

    Args:
        name: of this keeper, among all that run.
        duties: in the order of their importance.
        refusals: takes what Redis refuses; errors that end a whole round are passed to it too.
        monotonic_s: a clock, in seconds.
    """

    def __init__(self, name: str, broker: KeeperBroker, duties: Sequence[Duty], refusals: Refusals,
                 monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self.name, self.broker, self.duties, self._refusals = name, broker, duties, refusals
        self._monotonic_s = monotonic_s
        self.leads = False
        self.has_contact = True  # so that the first failure is logged
        self._refusal: str | None = None  # why we must not touch the data in this Redis
        self._contact_s = self._poll_s = float("-inf")

    def go(self) -> float:
        """Go one round; return the seconds until the next is needed."""
        now_s = self._monotonic_s()
        try:
            wait_s = self._round(now_s)
        except BrokerError as error:
            if self.has_contact:
                is_away = isinstance(error, BrokerUnavailable)  # else it answers, and something in it is in the way
                errors.warning("Redis is away" if is_away else "Redis cannot do what the keeper asks of it",
                               extra={"reason": str(error)})
            self.has_contact = False
            self._lose_contact()
            self._refusals.tell(error)
            return TICK_S
        self.has_contact = True
        self._contact_s = self._monotonic_s()
        return wait_s

    def ring(self, in_s: float = 0.0) -> None:
        """Look at Redis in so many seconds: there is something to do then."""
        self._poll_s = min(self._poll_s, self._monotonic_s() + in_s)

    def resign(self) -> None:
        """Let another keeper lead at once. Raises `BrokerError`."""
        if self.leads:
            self.leads = False
            self.broker.poll(self.name, 0)

    def _round(self, now_s: float) -> float:
        has_polled = now_s >= self._poll_s
        if has_polled:
            self._poll(now_s)
        is_more = False
        for duty in self.duties:
            if self._may(duty) and duty.is_due():
                is_more |= self._refusals.attempt(duty.run)
        if is_more:
            self._poll_s = self._monotonic_s()
        elif has_polled:
            wakes_s = (duty.wake_s() for duty in self.duties if self._may(duty))
            self._poll_s = min((self._poll_s, *wakes_s))
        return max(0.0, min(TICK_S, self._poll_s - self._monotonic_s()))

    def _may(self, duty: Duty) -> bool:
        return self.leads or not duty.needs_lead

    def _poll(self, now_s: float) -> None:
        """Look at Redis, and let the duties know what is there."""
        if now_s - self._contact_s > 3 * TICK_S:
            self._lose_contact()  # we were away ourselves, and so may have been what we would have seen
        found = self.broker.poll(self.name, self.broker.now_ms() + int(LEAD_S * 1000))
        self.leads = found.leads
        if found.refusal != self._refusal and found.refusal is not None:
            errors.error("this keeper stands aside", extra={"reason": found.refusal})
        self._refusal = found.refusal
        now_ms = self.broker.now_ms()
        for duty in self.duties:
            duty.learn(found, now_ms)
        self._poll_s = self._monotonic_s() + POLL_S

    def _lose_contact(self) -> None:
        for duty in self.duties:
            duty.lose_contact()
