"""The keeper's rounds. Any number of keepers may run; the one that leads acts, the others wait to take over.

Duties
1. Lead: hold the lead, or try for it.
2. Rescue the runs of supervisors whose process is gone from this very host, or whose lease has lapsed: then what is
   left of them on this host is ended first.
3. See to it that tasks end that were to be cancelled while they ran, and got away; promote tasks that are due, end
   those that have expired, remove those kept long enough.
4. Reconcile what the keys say of each other, a little at a time.

Rescue comes first, and each duty has a bounded time in each round: a load that brings more to be removed than one round
can remove makes rounds follow each other at once, and nothing else late.

A lease is over when nobody has renewed it before our own eyes for as long as its supervisor says that its leases last;
where it does not say so, for a whole lease of our own, and for as long as it was to last when we saw it first. So a
jump of Redis's clock, or a process that has not heard of it yet, neither ends nor prolongs a lease; and after an outage
of Redis nothing is rescued until supervisors have had time to renew. Keepers that follow watch too: often the
host that is lost had the leader, and the keeper that takes over need not begin to count then.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from engine.adapters.redis.wire.key_types import is_of_wrong_type
from engine.errors import BrokerError, BrokerUnavailable, SchemaMismatch
from engine.services.keeper.duties import BATCH, SLICE_S, Duties, Duty
from engine.services.keeper.duties import Broker as DutiesBroker
from engine.services.keeper.neighbours import Neighbours
from engine.services.keeper.reports import Reports

TICK_S = 1.0  # between two looks at the processes of this host
RESCUE_S_MAX = 2.0  # in one round, of all supervisors that are to be taken over from
POLL_S = 1.9  # between two looks at Redis, unless it rings or something is due: a lapsed lease is to be seen within 2 s
LEAD_S = 5.0  # a keeper that has not said so for this long has lost the lead
RECONCILE_S = 60.0
SETTLED_S = 5.0  # supervisors renew their leases each second
TELL_S, TOLD_MAX = 60.0, 100  # of what Redis goes on to refuse
LEASES_MAX = 4  # of our own, for one whose length nobody tells: its end was dated by a clock that has been set back
SET_BACK_MS = 1000  # more than Redis's clock and our belief about it differ while nobody touches it

log = logging.getLogger("ganger.execution")
errors = logging.getLogger("ganger.errors")


class Broker(DutiesBroker, Protocol):
    """What the rounds need of Redis; `engine.adapters.redis.keeper.keeping` says what each does."""

    def now_ms(self) -> int: ...
    def poll(self, keeper: str, until_ms: int) -> Any: ...
    def lapse(self, supervisor: str, seen_ms: int | None = None) -> bool: ...
    def rescue(self, supervisor: str, limit: int) -> Any: ...
    def reconcile(self, cursor: Any = None) -> Any: ...
    def set_apart(self) -> int: ...


class Watched(NamedTuple):
    """A lease as we have seen it first, and when by our own clock it is over if nobody renews it."""

    end_ms: int
    over_s: float


class Rounds:
    """`lease_s`: how long a lease that nobody renews is believed in, where its supervisor does not tell."""

    def __init__(self, name: str, broker: Broker, reports: Reports, neighbours: Neighbours, lease_s: float,
                 monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self.name, self.broker, self.neighbours, self.lease_s = name, broker, neighbours, lease_s
        self.reports, self.monotonic_s = reports, monotonic_s
        self.duties = Duties(broker, monotonic_s)
        self._refusal: str | None = None  # why we must not touch the data in this Redis
        self.leads = False
        self._leases: dict[str, Watched] = {}
        self._ahead_ms = float("-inf")  # Redis's clock before ours, when we looked last
        self._cursor: Any = None  # how far the reconciling has come
        self.has_contact = True  # so that the first failure is told
        self._contact_s = self._poll_s = self._reconciled_s = float("-inf")
        self._told: dict[str, float] = {}  # what was refused -> when that was told last
        self._reconciling = Duty(self._reconcile_some)

    def go(self) -> float:
        """One round; returns the seconds until the next is needed."""
        now_s = self.monotonic_s()
        try:
            wait_s = self._round(now_s)
        except BrokerError as error:
            if self.has_contact:
                is_away = isinstance(error, BrokerUnavailable)  # else it answers, and something in it is in the way
                errors.warning("Redis is away" if is_away else "Redis cannot do what the keeper asks of it",
                               extra={"reason": str(error)})
            self.has_contact = False
            self._leases.clear()
            self._set_apart(error)
            return TICK_S
        self.has_contact = True
        self._contact_s = self.monotonic_s()
        return wait_s

    def ring(self, in_s: float = 0.0) -> None:
        """There is something to do in so many seconds."""
        self._poll_s = min(self._poll_s, self.monotonic_s() + in_s)

    def resign(self) -> None:
        """Let another keeper lead at once."""
        if self.leads:
            self.leads = False
            self.broker.poll(self.name, 0)

    def _round(self, now_s: float) -> float:
        if now_s >= self._poll_s:
            self._poll_s = self._poll(now_s)
        elif self.leads:
            self._rescue_all(now_s)
        if self.leads:
            self._reconcile(now_s)
        return max(0.0, min(TICK_S, self._poll_s - self.monotonic_s()))

    def _poll(self, now_s: float) -> float:
        """Look at Redis, and do what is due; return when to look again."""
        if now_s - self._contact_s > 3 * TICK_S:
            self._leases.clear()  # we were away ourselves, and so may have been what we would have seen
        polled = self.broker.poll(self.name, self.broker.now_ms() + int(LEAD_S * 1000))
        self.leads = polled.leads
        if polled.refusal != self._refusal and polled.refusal is not None:
            errors.error("this keeper stands aside", extra={"reason": polled.refusal})
        self._refusal = polled.refusal
        self.reports.refresh(now_s, polled.leases)
        self._watch_leases(polled.leases)
        next_s = self.monotonic_s() + POLL_S
        if not self.leads:
            return next_s
        is_all_rescued = self._rescue_all(now_s)
        next_ms, is_all_done = self._keep_time(polled)
        if not (is_all_rescued and is_all_done):
            return self.monotonic_s()
        over_s = min((lease.over_s for lease in self._leases.values()), default=float("inf"))
        return min(next_s, over_s, self.monotonic_s() + (next_ms - self.broker.now_ms()) / 1000)

    def _keep_time(self, polled: Any) -> tuple[float, bool]:
        """Do what is due by the clock; return the moment of the next, ms, and whether nothing of it is left."""
        now_ms, duties = self.broker.now_ms(), self.duties
        is_due = {duties.cancels: polled.cancels > 0, duties.due: polled.due_ms <= now_ms,
                  duties.expiries: polled.expires_ms <= now_ms, duties.removals: polled.removal_ms <= now_ms}
        left = [self._attempt(lambda duty=duty: duty.go(self.monotonic_s))  # type: ignore[misc]
                for duty, now in is_due.items() if now]
        later = (moment for moment in (polled.due_ms, polled.expires_ms) if moment > now_ms)
        return min(later, default=float("inf")), not any(left)

    def _watch_leases(self, leases: dict[str, int]) -> None:
        known, now_ms = self._leases, self.broker.now_ms()
        now_s = self.monotonic_s()  # not before the answer: what is new in it may be as new as that
        if now_ms - now_s * 1000 < self._ahead_ms - SET_BACK_MS:
            self._reconciled_s = float("-inf")  # what is dated by the clock as it was waits for a time gone by
        self._ahead_ms = now_ms - now_s * 1000
        self._leases = {
            name: known[name] if name in known and known[name].end_ms == end_ms else Watched(
                end_ms, now_s + self._lasts_s(name, end_ms, now_ms)) for name, end_ms in leases.items()}

    def _lasts_s(self, name: str, end_ms: int, now_ms: int) -> float:
        """How long to believe in a lease that was just seen, and so cannot have been renewed later than that. One that
        was ended has no end any more."""
        if not end_ms:
            return 0.0
        report = self.reports.of(name)
        if report is not None and report.lease_s is not None:
            return report.lease_s
        return min(max(self.lease_s, (end_ms - now_ms) / 1000), LEASES_MAX * self.lease_s)

    def _lapsed(self) -> list[str]:
        """The supervisors whose lease is over, and that have not renewed it in this very moment."""
        now_s = self.monotonic_s()
        return [name for name, lease in self._leases.items()
                if now_s >= lease.over_s and self.broker.lapse(name, lease.end_ms)]

    def _rescue_all(self, now_s: float) -> bool:
        """Take over from supervisors of this host whose process and workers the kernel knows to be gone, with no lease
        to wait for; and from those whose lease is over. False: not all of their runs were taken yet."""
        until_s, is_all = self.monotonic_s() + RESCUE_S_MAX, True
        for supervisor in self.neighbours.gone(now_s, self._leases):
            if self.monotonic_s() >= until_s:
                return False
            self.broker.lapse(supervisor)
            is_all = not self._attempt(lambda name=supervisor: not self._rescue(  # type: ignore[misc]
                name, "its process is gone")) and is_all
        for supervisor in self._lapsed():
            if self.monotonic_s() >= until_s:
                return False
            self.neighbours.end(supervisor)
            is_all = not self._attempt(lambda name=supervisor: not self._rescue(  # type: ignore[misc]
                name, "its lease has lapsed")) and is_all
        return is_all

    def _attempt(self, portion: Callable[[], bool]) -> bool:
        """Do some of a duty; True: there is more of it. What Redis refuses there keeps us from no other duty."""
        try:
            return portion()
        except (BrokerUnavailable, SchemaMismatch):
            raise
        except BrokerError as error:
            now_s, reason = self.monotonic_s(), str(error)
            if now_s >= self._told.get(reason, float("-inf")) + TELL_S:
                self._told = {reason: now_s} if len(self._told) >= TOLD_MAX else {**self._told, reason: now_s}
                errors.error("Redis refused one of the keeper's duties; the others go on", extra={"reason": reason})
            self._set_apart(error)
            return False

    def _set_apart(self, error: BrokerError) -> None:
        """Move away what stands in the way of everything, and repair at once what that has cost."""
        if not is_of_wrong_type(error):
            return
        try:
            if self.broker.set_apart():
                self._reconcile_soon()
        except BrokerError as another:
            errors.error("keys of the wrong type could not be moved away", extra={"reason": str(another)})

    def _rescue(self, supervisor: str, reason: str) -> bool:
        """False: its time was over before all was taken, and the next round goes on."""
        became: Counter[str] = Counter()
        until_s = self.monotonic_s() + SLICE_S
        while True:
            report = self.broker.rescue(supervisor, BATCH)
            became.update(released=report.released, failed=report.failed, cancelled=report.cancelled)
            if report.is_over or self.monotonic_s() >= until_s:
                break
        log.warning("took over from a supervisor", extra={"supervisor": supervisor, "reason": reason, **became})
        return bool(report.is_over)

    def _reconcile_soon(self) -> None:
        """Repair what was lost with keys that were moved away, once all supervisors have said again that they live."""
        self._cursor, self._reconciled_s = None, self.monotonic_s() + SETTLED_S - RECONCILE_S

    def _reconcile(self, now_s: float) -> None:
        """Begin to go through everything once a minute; a bounded time in each round, so that nothing due waits."""
        if self._cursor is None:
            if now_s < self._reconciled_s + RECONCILE_S:
                return
            self._reconciled_s = now_s
        self._attempt(lambda: self._reconciling.go(self.monotonic_s))

    def _reconcile_some(self) -> bool:
        look = self.broker.reconcile(self._cursor)
        self._cursor = look.cursor
        if look.mended.get("misplaced"):
            self._reconcile_soon()
        if any(count for what, count in look.mended.items() if what != "flows"):
            errors.error("Redis contradicted itself and was mended", extra=dict(look.mended))
        return self._cursor is not None
