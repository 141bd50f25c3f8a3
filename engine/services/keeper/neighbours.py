"""Which supervisors of this very host are gone, by the kernel's word rather than by a lapsed lease.

A report names the supervisor's process by host, pid and moment of birth. When
that process and all its workers no longer exist, nothing of it can still be
running a task, and its runs need not wait for the lease.
"""

from collections.abc import Callable, Iterable
from typing import Any

from engine.adapters import probe

REFRESH_S = 30.0  # how often the reports are read while the same supervisors are there
_SURE_S = 0.5  # gone for this long: what it has started is gone too


class Neighbours:
    """`reports` gives what supervisors tell of themselves."""

    def __init__(self, reports: Callable[[], list[dict[str, Any]]],
                 born_at: Callable[[int], int | None] = probe.born_at) -> None:
        self._reports, self._born_at = reports, born_at
        self._host_id = probe.host_id()
        self._known: dict[str, dict[str, Any]] = {}
        self._missed: dict[str, float] = {}  # supervisor -> when it was first seen to be gone
        self._read_s = float("-inf")
        self._named: frozenset[str] = frozenset()

    def gone(self, now_s: float, supervisors: Iterable[str]) -> list[str]:
        """Those of the supervisors that have been gone for a moment; each is named until the reports no longer do."""
        named = frozenset(supervisors)
        if now_s >= self._read_s + REFRESH_S or named != self._named or self._missed:
            self._read_s, self._named = now_s, named
            self._known = {report["supervisor"]: report for report in self._reports() if self._is_here(report)}
        missing = {name for name, report in self._known.items() if not self._lives(report)}
        self._missed = {name: self._missed.get(name, now_s) for name in missing}
        return [name for name, since_s in self._missed.items() if now_s - since_s >= _SURE_S]

    def _is_here(self, report: dict[str, Any]) -> bool:
        """Whether it speaks of this kernel, and well enough to be judged by."""
        match report.get("identity"):
            case {"host_id": host_id, "pid": int(), "born_at": int()}:
                return bool(host_id == self._host_id)
        return False

    def _lives(self, report: dict[str, Any]) -> bool:
        identity = report["identity"]
        if self._born_at(identity["pid"]) == identity["born_at"]:
            return True
        pids = [slot.get("pid") for slot in report.get("slots") or ()]
        return any(self._born_at(pid) is not None for pid in pids if isinstance(pid, int))
