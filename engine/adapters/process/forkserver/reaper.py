"""How the fork server learns of deaths: a pidfd of each worker, which becomes readable when the worker ends.

Nothing here depends on SIGCHLD. An imported module may block or ignore that signal, take its handler, or reap the
children of this process itself. In the last case a death is reported with an unknown status.

1. Watch each worker from its fork on.
2. When one has died, end what it leaves behind (its orphans are adopted by this process), and only then report it.

The functions of the system are bound here, before any module of the user is imported and can replace them.
"""

import os
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from os import WNOHANG, close, pidfd_open, wait4
from select import POLLIN
from select import poll as make_poll
from typing import Any

from engine.adapters.kernel import descendants

_AGAIN_MS = 100  # until the next look at orphans that have not died of their kill
_LOOKS_MAX = 50  # then deaths are reported with orphans left: they hang in the kernel, and nobody can end them
_ROUNDS_MAX = 50  # of killing at the end
_ROUND_MS_MAX = 100  # each waits for the deaths of the one before, this long at most


@dataclass(slots=True)
class WorkerDeath:
    """A worker that has ended and is not yet reported. `status` is as of os.wait(), None if user code has reaped it."""

    spawn: int
    status: int | None = None
    cpu_s: float = 0.0
    peak_rss_bytes: int = 0


@dataclass(slots=True)
class Reaper:
    """Watches the children of this process. `report` is called with each dead worker of which nothing is left."""

    report: Callable[[WorkerDeath], None]
    own: frozenset[int] = frozenset()  # children that the imports started: not to be killed while this process lives
    workers: dict[int, int] = field(default_factory=dict)  # pid -> spawn
    poll: Any = field(default_factory=make_poll)
    _pidfds: dict[int, int] = field(default_factory=dict)  # pid -> descriptor, of workers and of dying orphans
    _deaths: list[WorkerDeath] = field(default_factory=list)
    _looks: int = 0  # at what these left

    def watch(self, pid: int, spawn: int) -> int:
        """Watch a worker; return its pidfd, which stays ours. Raises `OSError` when there are too many descriptors."""
        pidfd = self._watch(pid)
        self.workers[pid] = spawn
        return pidfd

    def forget_all(self) -> None:
        """In a fresh worker: the others are not its children."""
        for fd in self._pidfds.values():
            close(fd)
        self._pidfds.clear()

    def wait(self) -> list[int]:
        """Wait until some descriptor is readable; return all that are."""
        return [fd for fd, _ in self.poll.poll(_AGAIN_MS if self._deaths else None)]

    def reap(self, ready: Collection[int]) -> None:
        """Reap the dead; end what dead workers left; report a death when nothing is left of it.

        `ready` are the readable descriptors. The process of a readable pidfd has ended, whether or not user code has
        reaped it.
        """
        while self._reap():
            pass
        for pid in [pid for pid, fd in self._pidfds.items() if fd in ready]:
            self._reap(pid)
        if not self._deaths:
            return
        strays = self._strays() or self._strays()  # the kernel may leave one out while others go (man 5 proc)
        self._looks += 1
        if strays and self._looks < _LOOKS_MAX:
            descendants.end(strays)
            for pid in strays:
                with suppress(OSError):  # no descriptor for it, or it is gone: then the next look is by the clock
                    self._watch(pid)
            return
        self._looks = 0
        for death in self._deaths:
            self.report(death)
        self._deaths.clear()

    def end_all(self) -> None:
        """Kill everything below this process, round by round until there is nothing."""
        self.poll = make_poll()  # of deaths alone: other descriptors may be readable all the time
        for fd in self._pidfds.values():
            self.poll.register(fd, POLLIN)
        for _ in range(_ROUNDS_MAX):
            below = descendants.children(os.getpid())
            if not below:
                return
            descendants.end(below)
            for pid in below:
                with suppress(OSError):
                    self._watch(pid)
            self._reap_until_quiet()

    def _reap_until_quiet(self) -> None:
        """Until there is no child, or none has died for a moment."""
        while self.poll.poll(_ROUND_MS_MAX):
            before = len(self._pidfds)
            while self._reap():
                pass
            if not self._pidfds or len(self._pidfds) == before:
                return

    def _watch(self, pid: int) -> int:
        if pid not in self._pidfds:
            self._pidfds[pid] = fd = pidfd_open(pid)
            self.poll.register(fd, POLLIN)
        return self._pidfds[pid]

    def _reap(self, which: int = -1) -> bool:
        """Reap one child that has ended, any or this one; False when there is none."""
        try:
            pid, status, usage = wait4(which, WNOHANG)
        except ChildProcessError:
            if which > 0:  # its pidfd says that it has ended, so user code has reaped it
                self._ended(which, WorkerDeath(self.workers.get(which, 0)))
            return False
        if pid:
            self._ended(pid, WorkerDeath(self.workers.get(pid, 0), status, usage.ru_utime + usage.ru_stime,
                                   usage.ru_maxrss * 1024))
        return pid != 0

    def _ended(self, pid: int, death: WorkerDeath) -> None:
        fd = self._pidfds.pop(pid, -1)
        if fd >= 0:
            self.poll.unregister(fd)
            close(fd)
        if self.workers.pop(pid, None) is not None:
            self._deaths.append(death)

    def _strays(self) -> list[int]:
        """Children that are no workers: orphans of dead ones. A live worker keeps its own, being a subreaper."""
        return [pid for pid in descendants.children(os.getpid()) if pid not in self.workers and pid not in self.own]
