"""After the death of a fork server: its workers die with it, and what they had started comes to us. End and reap it.

A pool is a subreaper, so that these orphans can be found. It may have children
of its own; the others are known by a variable in their environment, by the
session of a worker, or, if they are dead already, by any session but ours.
"""

import os
from collections.abc import Callable
from contextlib import suppress

from engine.adapters.kernel import descendants
from engine.tasks.import_guard import TREE_MARK


class OrphanCleanup:
    """Goes round until nothing is left. `reaped(pid, status, cpu_s, peak_rss_bytes)` tells of each worker."""

    def __init__(self, mark: str, workers: set[int], reaped: Callable[[int, int, float, int], None]) -> None:
        self._mark = f"{TREE_MARK}={mark}".encode()
        self._workers, self._reaped = workers, reaped
        self._session = os.getsid(0)

    def round(self) -> bool:
        """End and reap what there is now; True when there was nothing."""
        condemned = [pid for pid in descendants.children(os.getpid()) if pid in self._workers or self._is_orphan(pid)]
        for pid in descendants.end(condemned):
            with suppress(ChildProcessError):
                gone, status, usage = os.wait4(pid, os.WNOHANG)
                if gone in self._workers:
                    self._reaped(pid, status, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)
        return not condemned

    def _is_orphan(self, pid: int) -> bool:
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                if self._mark in file.read().split(b"\0"):
                    return True
        except OSError:
            pass
        fields = descendants.stat_fields(pid)
        if fields is None:
            return False
        state, session = fields[0], int(fields[3])
        return session in self._workers or (state == "Z" and session != self._session)

