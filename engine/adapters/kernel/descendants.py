"""Everything below a process, and how to end it so that nothing gets away.

Stop first, then kill: a stopped process starts no further children and does not see its own die. A process that was
forked at the wrong moment escapes and becomes an orphan. The nearest ancestor that adopts orphans is the fork server,
which ends it before it reports the death of the worker.
"""

import contextlib
import os
import signal
import time
from collections.abc import Iterable

_FREEZE_S_MAX = 0.004  # a tree that grows faster than it can be stopped is killed as far as it is known
_HAS_CHILDREN_FILE = os.path.exists("/proc/thread-self/children")


def stat_fields(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the state on (state, ppid, pgrp, session …), None if it is gone, hidden, or we
    have no descriptor to look at it with."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].decode().split()
    except OSError:
        return None


def can_look() -> bool:
    """Whether there is a descriptor to look at processes with. Without one, no process can be seen."""
    try:
        os.close(os.open("/proc/self/stat", os.O_RDONLY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def children(pid: int) -> list[int]:
    """The children of all threads of a process, zombies included."""
    if not _HAS_CHILDREN_FILE:
        return [one for one in _all_pids() if (fields := stat_fields(one)) is not None and int(fields[1]) == pid]
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError), \
                    open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                found.extend(map(int, file.read().split()))
    return found


def descendants(pid: int) -> list[int]:
    """All processes below `pid`, parents before children."""
    found = children(pid)
    for one in found:  # grows while it is walked
        found.extend(children(one))
    return found


def freeze(roots: Iterable[int]) -> list[int]:
    """Stop processes and everything below them, until a look finds no new one; return their pids.

    Whether they have stopped is not waited for: on a busy machine that takes as long as it takes them to get a
    processor. A fork that was under way may still come out, and is an orphan then.
    """
    roots = list(roots)
    known = dict.fromkeys(roots)
    for pid in roots:
        send(pid, signal.SIGSTOP)
    until_s = time.monotonic() + _FREEZE_S_MAX
    while True:
        fresh = [pid for root in roots for pid in descendants(root) if pid not in known]
        for pid in fresh:
            send(pid, signal.SIGSTOP)
            known[pid] = None
        if not fresh or time.monotonic() > until_s:
            return list(known)


def end(roots: Iterable[int]) -> list[int]:
    """Freeze, then kill, processes and all below them; return their pids. Their parents have to reap them."""
    known = freeze(roots)
    kill(known)
    return known


def kill(pids: Iterable[int]) -> None:
    """Send SIGKILL to each of these processes that is still there."""
    for pid in pids:
        send(pid, signal.SIGKILL)


def send(pid: int, number: int) -> bool:
    """Send a signal; False if there is no such process any more."""
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):  # the latter: a set-user-id program, which only root can end
        return False
    return True


def _all_pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]
