"""The part of the supervisors' reports that a keeper needs. It is read when the supervisors change, and twice a minute.

Anybody who can write to Redis can write a report: a field that makes no sense counts as missing.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from engine.adapters.kernel.identity import Identity

REFRESH_S = 30.0  # how often they are read while the same supervisors are there
LEASE_S_MAX = 3600.0  # as for the setting
PROCESSES_MAX = 4096


@dataclass(frozen=True, slots=True)
class SupervisorReport:
    """`processes`: the supervisor, its fork server and its workers, in this order; empty if the report has none."""

    host_id: str
    processes: tuple[Identity, ...]
    lease_s: float | None  # None: the report does not say


class SupervisorReports:
    """Used by one thread. `read` gives the reports as they are stored, and may raise `BrokerError`."""

    def __init__(self, read: Callable[[], list[dict[str, Any]]]) -> None:
        self._read = read
        self._known: dict[str, SupervisorReport] = {}
        self._names: frozenset[str] = frozenset()
        self._read_s = float("-inf")

    def refresh(self, now_s: float, names: Iterable[str], *, at_once: bool = False) -> None:
        """Read the reports if it is time, if the supervisors are others than before, or `at_once`.

        Args:
            now_s: by the monotonic clock.
            names: of the supervisors that have a lease.

        Raises: `BrokerError`.
        """
        named = frozenset(names)
        if at_once or named != self._names or now_s >= self._read_s + REFRESH_S:
            self._names, self._read_s = named, now_s
            self._known = {report["supervisor"]: _report(report) for report in self._read() if "supervisor" in report}

    def of(self, supervisor: str) -> SupervisorReport | None:
        """Return the report of a supervisor, None if it has made none."""
        return self._known.get(supervisor)

    def all(self) -> dict[str, SupervisorReport]:
        """Return the reports by supervisor."""
        return self._known


def _report(report: dict[str, Any]) -> SupervisorReport:
    lease_s = report.get("lease_s")
    is_length = isinstance(lease_s, int | float) and 0 < lease_s <= LEASE_S_MAX
    return SupervisorReport(*_processes(report), float(lease_s) if is_length and lease_s is not None else None)


def _processes(report: dict[str, Any]) -> tuple[str, tuple[Identity, ...]]:
    match report.get("identity"):
        case {"host_id": str(host_id), "pid": int(pid), "born_at": int(born_at), **rest}:
            below = _pairs(rest["below"]) if "below" in rest else _of_slots(report.get("slots"))
            return host_id, (Identity(pid, born_at), *below[:PROCESSES_MAX])
    return "", ()


def _pairs(below: Any) -> list[Identity]:
    """Its fork server and its workers."""
    if not isinstance(below, list):
        return []
    return [Identity(*pair) for pair in below if isinstance(pair, list) and len(pair) == 2 and
            all(type(number) is int for number in pair)]


def _of_slots(slots: Any) -> list[Identity]:
    """Workers that it names by their number alone."""
    if not isinstance(slots, list):
        return []
    pids = [slot.get("pid") for slot in slots if isinstance(slot, dict)]
    return [Identity(pid, None) for pid in pids if type(pid) is int]
