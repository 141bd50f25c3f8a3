"""Orphans of runs: their worker adopts them, so that none gets away. The dead among them have to be reaped.

1. Dead children are looked for between two runs only. During a run they may be the handler's.
2. A child whose exit status the user's code may still ask for is left alone: one of a subprocess.Popen or a
   multiprocessing.Process that still exists, or of os.fork().
3. While there is no task, the worker waits for the next one and for the deaths of its children together.

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

from engine.adapters.process.kernel import descendants

_WATCHED_MAX = 64  # living children whose deaths an idle worker waits for
_PAUSE_S = 1.0  # between two searches for owners while tasks are waiting: each walks over all Python objects


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
        found = False
        while True:
            try:
                dead = waitid(P_ALL, 0, WEXITED | WNOHANG | WNOWAIT)
            except ChildProcessError:
                self._forked.clear()
                return found
            is_idle = not _is_ready(self._tasks)
            if dead is not None and (is_idle or monotonic() > self._searched_s + _PAUSE_S):
                self._searched_s = monotonic()
                found |= self._reap_ownerless()
            if not is_idle or not self._wait():
                return found

    def _reap_ownerless(self) -> bool:
        children = descendants.children(os.getpid())
        self._forked.intersection_update(children)
        ownerless = {pid for pid in children if not _lives(pid)} - self._forked
        if ownerless:
            ownerless.difference_update(_owned())
        for pid in ownerless:
            with suppress(ChildProcessError):
                waitpid(pid, WNOHANG)
        return bool(ownerless)

    def _wait(self) -> bool:
        """Wait for a task or for the death of a child; True for the latter."""
        poll, pidfds = make_poll(), []
        poll.register(self._tasks, POLLIN)
        try:
            for pid in [pid for pid in descendants.children(os.getpid()) if _lives(pid)][:_WATCHED_MAX]:
                with suppress(OSError):
                    pidfds.append(pidfd_open(pid))
                    poll.register(pidfds[-1], POLLIN)
            return bool(pidfds) and all(fd != self._tasks for fd, _ in poll.poll())
        finally:
            for fd in pidfds:
                close(fd)


def children_of_thread() -> list[int]:
    """The children of this thread, in the order in which they were forked or adopted."""
    with suppress(OSError), open("/proc/thread-self/children", "rb") as file:
        return list(map(int, file.read().split()))
    return []  # a kernel without that file


def _is_ready(fd: int) -> bool:
    poll = make_poll()
    poll.register(fd, POLLIN)
    return bool(poll.poll(0))


def _lives(pid: int) -> bool:
    """Whether this child has not ended yet. One that somebody has reaped has ended."""
    try:
        return waitid(P_PID, pid, WEXITED | WNOHANG | WNOWAIT) is None
    except ChildProcessError:
        return False


def _owned() -> Iterator[int]:
    """Children that an object of the standard library stands for, and may be asked about."""
    if (subprocess := sys.modules.get("subprocess")) is not None:
        for one in gc.get_objects():
            if issubclass(type(one), subprocess.Popen):
                yield getattr(one, "pid", 0)
    if (process := sys.modules.get("multiprocessing.process")) is not None:
        for child in list(process._children):
            yield getattr(child, "pid", None) or 0
