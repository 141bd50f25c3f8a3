"""The keeper's rounds. Any number of keepers may run; the one that leads acts, the others wait to take over.

Duties
1. Lead: hold the lead, or try for it.
2. Promote tasks that are due, end those that have expired, remove those kept long enough.
3. Rescue the runs of supervisors whose lease has lapsed, or whose process is gone from this very host.
4. Reconcile what the keys say of each other, a little at a time.

After an outage of Redis nothing is rescued until supervisors have had time to renew their leases.
"""

import logging
import time
from collections.abc import Callable
from typing import Any, Protocol

from engine.adapters import probe
from engine.errors import BrokerError

TICK_S = 1.0
LEAD_S = 5.0  # a keeper that has not said so for this long has lost the lead
SWEEP_S = 10.0
RECONCILE_S = 60.0
BATCH = 500

log = logging.getLogger("ganger.execution")
errors = logging.getLogger("ganger.errors")


class Broker(Protocol):
    """What the rounds need of Redis."""

    def lead(self, keeper: str, lead_s: float) -> bool: ...
    def promote(self, limit: int) -> tuple[int, int | None]: ...
    def expire(self, limit: int) -> tuple[int, int | None]: ...
    def sweep(self, limit: int) -> int: ...
    def supervisors(self) -> list[dict[str, Any]]: ...
    def rescue(self, supervisor: str, limit: int, *, gone: bool) -> Any: ...
    def reconcile(self) -> dict[str, int]: ...
    def now_ms(self) -> int: ...


class Rounds:
    """`lease_s`: how long supervisors have to renew after an outage."""

    def __init__(self, name: str, broker: Broker, lease_s: float,
                 monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self.name, self.broker, self.lease_s, self.monotonic_s = name, broker, lease_s, monotonic_s
        self.leads = False
        self._contact_since_s: float | None = None  # since when no call has failed and no pause was long
        self._contact_s = 0.0
        self._lead_until_s = self._swept_s = self._reconciled_s = float("-inf")
        self._gone: dict[str, float] = {}  # supervisor of this host -> when it was first seen dead

    def go(self) -> float:
        """One round; returns the seconds until the next is needed."""
        now_s = self.monotonic_s()
        try:
            wait_s = self._round(now_s)
        except BrokerError as error:
            if self._contact_since_s is not None:
                errors.warning("Redis is away", extra={"reason": str(error)})
            self._contact_since_s = None
            return TICK_S
        if self._contact_since_s is None or now_s - self._contact_s > 3 * TICK_S:
            self._contact_since_s = now_s
        self._contact_s = self.monotonic_s()
        return wait_s

    def _round(self, now_s: float) -> float:
        if now_s >= self._lead_until_s - LEAD_S / 2:
            self.leads = self.broker.lead(self.name, LEAD_S)
            self._lead_until_s = now_s + LEAD_S
        if not self.leads:
            self._lead_until_s = now_s + LEAD_S / 2 + TICK_S
            return TICK_S
        due_s = min(self._until(self._all(self.broker.promote)), self._until(self._all(self.broker.expire)))
        self._rescue(now_s)
        if now_s >= self._swept_s + SWEEP_S:
            self._swept_s = now_s
            while self.broker.sweep(BATCH) >= BATCH:
                pass
        if now_s >= self._reconciled_s + RECONCILE_S:
            self._reconciled_s = now_s
            self._reconcile()
        return min(TICK_S, due_s)

    def _all(self, verb: Callable[[int], tuple[int, int | None]]) -> int | None:
        """Repeat a verb until it has nothing left to do; return the moment of its next work."""
        while True:
            count, next_ms = verb(BATCH)
            if count < BATCH:
                return next_ms

    def _until(self, moment_ms: int | None) -> float:
        if moment_ms is None:
            return TICK_S
        return max(0.0, (moment_ms - self.broker.now_ms()) / 1000)

    def _rescue(self, now_s: float) -> None:
        settled = self._contact_since_s is not None and now_s >= self._contact_since_s + self.lease_s
        for supervisor in self.broker.supervisors():
            name = supervisor["supervisor"]
            gone = self._is_gone(supervisor, now_s)
            if gone or (settled and supervisor["lease_end_ms"] < self.broker.now_ms()):
                report = self.broker.rescue(name, BATCH, gone=gone)
                self._gone.pop(name, None)
                log.warning("took over from a supervisor", extra={"supervisor": name, "process_gone": gone,
                                                                  "report": report})

    def _is_gone(self, supervisor: dict[str, Any], now_s: float) -> bool:
        """Whether it was a process of this very host, and it and its workers have been gone for a tick."""
        identity = supervisor.get("identity")
        if not identity or identity["host_id"] != probe.host_id():
            return False
        pids = [slot["pid"] for slot in supervisor.get("slots", ()) if slot.get("pid")]
        if probe.born_at(identity["pid"]) == identity["born_at"] or any(probe.born_at(pid) for pid in pids):
            self._gone.pop(supervisor["supervisor"], None)
            return False
        return now_s - self._gone.setdefault(supervisor["supervisor"], now_s) >= TICK_S / 2

    def _reconcile(self) -> None:
        mended = {what: count for what, count in self.broker.reconcile().items() if count}
        if mended:
            errors.error("Redis contradicted itself and was mended", extra=mended)
