"""Orphans of runs: their worker adopts them, so that none gets away. The dead among them have to be reaped.

1. Dead children are looked for between two runs only. During a run they may be the handler's.
2. A child whose exit status the user's code may still ask for is left alone: one of a subprocess.Popen or a
   multiprocessing.Process that still exists, or of os.fork().
3. While there is no task, the worker waits for the next one and for the deaths of its children together. A child that
   dies before the worker watches it is a zombie that no search has judged, so the worker searches again. A process that
   the worker adopts while it waits is watched from the next listing of the children, at most a second later.

The functions of the system are bound here, before any module of the user is imported and can replace them.
"""

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from os import P_ALL, P_PID, WEXITED, WNOHANG, WNOWAIT, close, pidfd_open, waitid, waitpid
from select import POLLIN
from select import poll as make_poll
from time import monotonic

from engine.adapters.kernel import descendants

_WATCHED_MAX = 64  # living children whose deaths an idle worker waits for
_PAUSE_S = 1.0  # between two searches for owners while tasks are waiting: each walks over all Python objects
_LISTING_MS = 1000  # an idle worker lists its children that often, as long as one of them lives


class Orphans:
    """`tasks` is the descriptor from which the next task comes."""

    def __init__(self, tasks: int) -> None:
        self._tasks = tasks
        self._forked: set[int] = set()  # by os.fork(), and not known to have been reaped
        self._searched_s = 0.0

    def forked(self, before: list[int]) -> None:
        """Called in the parent after each os.fork(), with the `children_of_thread` from before it.

        The child that is new is the handler's own. Of several, the first: the others are orphans that came after it.
        """
        self._forked.update([pid for pid in children_of_thread() if pid not in before][:1])

    def reap(self) -> bool:
        """Reap dead children and, until there is a task, those that die; return whether any was reaped."""
        has_reaped = False
        owned: set[int] = set()  # dead, and left to their owners by the last search
        while True:
            try:
                is_any_dead = waitid(P_ALL, 0, WEXITED | WNOHANG | WNOWAIT) is not None
            except ChildProcessError:
                self._forked.clear()
                return has_reaped
            is_idle = not _is_ready(self._tasks)
            if is_any_dead and (is_idle or monotonic() > self._searched_s + _PAUSE_S):
                _, dead = self._children()
                if not dead <= owned:
                    self._searched_s = monotonic()
                    owned = self._owned_of(dead)
                    has_reaped |= _reap(dead - owned)
            if not is_idle or not self._wait(owned):
                return has_reaped

    def _owned_of(self, dead: set[int]) -> set[int]:
        """Those of these children that the user's code may still ask for."""
        self._forked.intersection_update(descendants.children(os.getpid()))
        owned = dead & self._forked
        if dead - owned:
            owned |= dead.intersection(_pids_of_objects())
        return owned

    def _wait(self, owned: set[int]) -> bool:
        """Wait for a task, for a death, or for the next listing; return False for a task and where no child lives."""
        living, dead = self._children()
        if not dead <= owned:  # it died after the last search, and nobody watched it
            return True
        poll, pidfds = make_poll(), []
        poll.register(self._tasks, POLLIN)
        try:
            for pid in living[:_WATCHED_MAX]:
                with suppress(OSError):
                    pidfds.append(pidfd_open(pid))
                    poll.register(pidfds[-1], POLLIN)
            return bool(living) and all(fd != self._tasks for fd, _ in poll.poll(_LISTING_MS))
        finally:
            for fd in pidfds:
                close(fd)

    def _children(self) -> tuple[list[int], set[int]]:
        """The children that have not ended, and those that wait to be reaped."""
        living, dead = [], set()
        for pid in descendants.children(os.getpid()):
            with suppress(ChildProcessError):  # another thread has reaped it
                if waitid(P_PID, pid, WEXITED | WNOHANG | WNOWAIT) is None:
                    living.append(pid)
                else:
                    dead.add(pid)
        return living, dead


def children_of_thread() -> list[int]:
    """The children of this thread, in the order in which they were forked or adopted."""
    with suppress(OSError), open("/proc/thread-self/children", "rb") as file:
        return list(map(int, file.read().split()))
    return []  # a kernel without that file


def _is_ready(fd: int) -> bool:
    poll = make_poll()
    poll.register(fd, POLLIN)
    return bool(poll.poll(0))


def _reap(dead: set[int]) -> bool:
    """Return whether there was any."""
    for pid in dead:
        with suppress(ChildProcessError):
            waitpid(pid, WNOHANG)
    return bool(dead)


def _pids_of_objects() -> Iterator[int]:
    """Children that an object of the standard library stands for, and may be asked about."""
    if (subprocess := sys.modules.get("subprocess")) is not None:
        for one in gc.get_objects():
            if issubclass(type(one), subprocess.Popen):
                yield getattr(one, "pid", 0)
    if (process := sys.modules.get("multiprocessing.process")) is not None:
        for child in list(process._children):
            yield getattr(child, "pid", None) or 0
