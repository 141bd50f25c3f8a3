"""Which supervisors of this host are gone, as the kernel says before their leases are over; and the end of their rest.

Duties
1. Name the supervisors that are gone with all their processes: nothing of them can still be running a task.
2. End the processes below a supervisor that is gone itself, such as a fork server that was stopped.
3. End all processes of a supervisor whose lease is over, before others get its runs.

Silence proves nothing. A process that cannot be seen from here, because it belongs to another user or has another
namespace of process ids, is believed to live until its lease is over.
"""

import logging
from collections.abc import Iterable
from typing import Protocol

from engine.adapters.kernel import identity
from engine.adapters.kernel.identity import Identity, Presence
from engine.services.keeper.reports import SupervisorReport, SupervisorReports

SURE_S = 0.5  # a supervisor has to be gone for this long: its children may end a moment later
END_S_MAX = 1.0  # that killed processes have to end

log = logging.getLogger("ganger.execution")


class Kernel(Protocol):
    """The processes that this one can see. `engine.adapters.kernel.identity` says what each does."""

    def host_id(self) -> str: ...
    def presence(self, one: Identity) -> Presence: ...
    def end(self, roots: Iterable[Identity], within_s: float) -> bool: ...


class LocalKernel:
    """The real one."""

    host_id = staticmethod(identity.host_id)
    presence = staticmethod(identity.presence)
    end = staticmethod(identity.end)


class SupervisorPresence:
    """Used by one thread. `kernel` is another than the real one in tests."""

    def __init__(self, reports: SupervisorReports, kernel: Kernel | None = None) -> None:
        self._reports, self._kernel = reports, kernel or LocalKernel()
        self._host_id = self._kernel.host_id()
        self._missed: dict[str, float] = {}  # supervisor -> when it was first seen to be gone

    def gone(self, now_s: float, supervisors: Iterable[str]) -> list[str]:
        """Return the supervisors of this host that have been gone for SURE_S seconds.

        Args:
            now_s: by the monotonic clock.
            supervisors: those that have a lease; their reports are read anew where these change.
        """
        self._reports.refresh(now_s, supervisors, at_once=bool(self._missed))
        missing = {name for name, report in self._reports.all().items() if self._is_gone(name, report)}
        self._missed = {name: self._missed.get(name, now_s) for name in missing}
        return [name for name, since_s in self._missed.items() if now_s - since_s >= SURE_S]

    def end(self, supervisor: str) -> None:
        """End the processes of a supervisor on this host, as far as they can be seen and we are allowed to."""
        report = self._reports.of(supervisor)
        if report is None or not self._is_here(report):
            return
        left = [one for one in report.processes if self._kernel.presence(one) is not Presence.GONE]
        if left:
            is_all = self._kernel.end(left, END_S_MAX)
            log.warning("ended what was left of a supervisor" if is_all else
                        "not all that is left of a supervisor could be ended from here",
                        extra={"supervisor": supervisor, "pids": " ".join(str(one.pid) for one in left)})

    def _is_here(self, report: SupervisorReport) -> bool:
        """Return whether a report is of this host, and names processes."""
        return bool(report.processes) and report.host_id == self._host_id != ""

    def _is_gone(self, name: str, report: SupervisorReport) -> bool:
        if not self._is_here(report) or self._kernel.presence(report.processes[0]) is not Presence.GONE:
            return False
        left = [one for one in report.processes[1:] if self._kernel.presence(one) is not Presence.GONE]
        if any(self._kernel.presence(one) is Presence.LIVES for one in left):
            self._kernel.end(left, 0.0)
        return not left
