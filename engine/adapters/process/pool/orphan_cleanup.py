"""After the loss of a fork server: its workers die with it, and their pool adopts what they had started.

A pool is a subreaper, so that these orphans can be found. It may have children of its own. The orphans are known by a
variable in their environment, by the session of a worker, or, if they are dead already, by any session but the pool's.

A fork server that has only lost its connection, since an imported module closed it, has a moment to say so and to end.
"""

import os
import time
from collections.abc import Callable
from contextlib import suppress

from engine.adapters.kernel import descendants
from engine.tasks.import_guard import TREE_MARK

SERVER_ENDS_S = 2.0  # how long a fork server has to end by itself


class OrphanCleanup:
    """Ends and reaps in rounds. `reaped(pid, status, cpu_s, peak_rss_bytes)` is called for each worker.

    `mark` is the value of the variable, `server` the pid of the fork server, and `workers` are those of its workers.
    """

    def __init__(self, mark: str, server: int, workers: set[int],
                 reaped: Callable[[int, int, float, int], None]) -> None:
        self._server, self._spared_until_s = server, time.monotonic() + SERVER_ENDS_S
        self._mark = f"{TREE_MARK}={mark}".encode()
        self._workers, self._reaped = workers, reaped
        self._session = os.getsid(0)

    def round(self) -> bool:
        """End and reap what there is now; return True when there was nothing."""
        condemned = [pid for pid in descendants.children(os.getpid()) if pid in self._workers or self._is_orphan(pid)]
        if self._server in condemned and time.monotonic() < self._spared_until_s:
            condemned.remove(self._server)
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

