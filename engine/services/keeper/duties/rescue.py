"""The duty that takes runs over from supervisors that are gone or silent, so that others run them.

1. A supervisor of this host whose process and workers the kernel knows to be gone has no lease to wait for.
2. Of any other the lease has to be over. What is left of it on this host is ended first.
3. What Redis refuses for one supervisor keeps no other waiting.
"""

import logging
from collections.abc import Callable
from typing import ClassVar

from engine.ports.keeper_broker import KeeperBroker, PollResult
from engine.services.keeper.duties.duty import BATCH, Duty, Refusals
from engine.services.keeper.lease_watch import LeaseWatch
from engine.services.keeper.presence import SupervisorPresence
from engine.services.keeper.reports import SupervisorReports

SUPERVISOR_S = 0.1  # for one supervisor in one round

log = logging.getLogger("ganger.execution")


class Rescue(Duty):
    """The first of all duties, in every round.

    Args:
        lease_s: how long a lease lasts whose supervisor does not say so.
    """

    name: ClassVar[str] = "rescue"
    period_s: ClassVar[float] = 0.0
    budget_s: ClassVar[float] = 2.0

    def __init__(self, broker: KeeperBroker, reports: SupervisorReports, presence: SupervisorPresence, lease_s: float,
                 refusals: Refusals, monotonic_s: Callable[[], float]) -> None:
        super().__init__(monotonic_s)
        self._broker, self._reports, self._presence, self._refusals = broker, reports, presence, refusals
        self._leases = LeaseWatch(reports, lease_s, monotonic_s)

    def learn(self, found: PollResult, now_ms: int) -> None:
        """Go by the leases as they are now. A keeper that follows does so too, and may lead when one of them ends."""
        self._reports.refresh(self._monotonic_s(), found.leases)
        self._leases.update(found.leases, now_ms)

    def lose_contact(self) -> None:
        """Give all supervisors the time to renew their leases."""
        self._leases.forget()

    def wake_s(self) -> float:
        """Return when the next lease is over."""
        return self._leases.next_end_s()

    def run(self) -> bool:
        """As `Duty.run`, a supervisor after the other."""
        until_s, is_more = self._monotonic_s() + self.budget_s, False
        for supervisor in self._presence.gone(self._monotonic_s(), self._leases.names()):
            if self._monotonic_s() >= until_s:
                return True
            self._broker.expire_lease(supervisor)
            is_more |= self._attempt(supervisor, "its process is gone")
        for supervisor, end_ms in self._leases.over():
            if self._monotonic_s() >= until_s:
                return True
            if self._broker.expire_lease(supervisor, end_ms):  # else it was renewed in this very moment
                self._presence.end(supervisor)
                is_more |= self._attempt(supervisor, "its lease has lapsed")
        return is_more

    def _attempt(self, supervisor: str, reason: str) -> bool:
        return self._refusals.attempt(lambda: self._rescue(supervisor, reason))

    def _rescue(self, supervisor: str, reason: str) -> bool:
        """Take its runs over. Returns whether its time was over before all were taken."""
        released = failed = cancelled = 0
        until_s = self._monotonic_s() + SUPERVISOR_S
        while True:
            result = self._broker.rescue(supervisor, BATCH)
            released, failed = released + result.released, failed + result.failed
            cancelled += result.cancelled
            if result.is_over or self._monotonic_s() >= until_s:
                break
        log.warning("took over from a supervisor", extra={
            "supervisor": supervisor, "reason": reason, "released": released, "failed": failed,
            "cancelled": cancelled})
        return not result.is_over
