"""When the lease of a supervisor is over that nobody renews.

A lease is over when nobody has renewed it before our own eyes for as long as its supervisor says that its leases last;
where it does not say so, for a whole lease of our own, and for as long as it was to last when we saw it first. So a
jump of Redis's clock, or a process that has not heard of it yet, neither ends nor prolongs a lease; and after an outage
of Redis nothing is rescued until supervisors have had time to renew. Keepers that follow watch too: often the host that
is lost had the leader, and the keeper that takes over need not begin to count then.
"""

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

from engine.services.keeper.reports import SupervisorReports

LEASES_MAX = 4  # of our own, for one whose length nobody tells: its end was dated by a clock that has been set back


class _Lease(NamedTuple):
    """A lease as we have seen it first, and when by our own clock it is over if nobody renews it."""

    end_ms: int
    over_s: float


class LeaseWatch:
    """Used by one thread.

    Args:
        reports: what supervisors say of the length of their leases.
        lease_s: how long a lease lasts whose supervisor does not say so.
        monotonic_s: our own clock, in seconds.
    """

    def __init__(self, reports: SupervisorReports, lease_s: float, monotonic_s: Callable[[], float]) -> None:
        self._reports, self._lease_s, self._monotonic_s = reports, lease_s, monotonic_s
        self._leases: dict[str, _Lease] = {}

    def update(self, ends_ms: dict[str, int], now_ms: int) -> None:
        """Go by the leases as Redis has them now: their ends by supervisor, by Redis's clock, as `now_ms` is."""
        now_s = self._monotonic_s()  # not before the answer: what is new in it may be as new as that
        known = self._leases
        self._leases = {
            name: known[name] if name in known and known[name].end_ms == end_ms else _Lease(
                end_ms, now_s + self._lasts_s(name, end_ms, now_ms)) for name, end_ms in ends_ms.items()}

    def forget(self) -> None:
        """Begin to count anew: a supervisor may have renewed its lease unseen."""
        self._leases.clear()

    def names(self) -> Iterable[str]:
        """Return the supervisors that have a lease."""
        return self._leases.keys()

    def over(self) -> list[tuple[str, int]]:
        """Return the supervisors whose lease is over, each with the end of it that Redis has."""
        now_s = self._monotonic_s()
        return [(name, lease.end_ms) for name, lease in self._leases.items() if now_s >= lease.over_s]

    def next_end_s(self) -> float:
        """Return when the next lease is over, by our own clock; infinite where there is none."""
        now_s = self._monotonic_s()
        return min((lease.over_s for lease in self._leases.values() if lease.over_s > now_s), default=math.inf)

    def _lasts_s(self, name: str, end_ms: int, now_ms: int) -> float:
        """Return how long to believe in a lease that was just seen, and so cannot have been renewed later than that.

        One that was ended has no end any more.
        """
        if not end_ms:
            return 0.0
        report = self._reports.of(name)
        if report is not None and report.lease_s is not None:
            return report.lease_s
        return min(max(self._lease_s, (end_ms - now_ms) / 1000), LEASES_MAX * self._lease_s)
