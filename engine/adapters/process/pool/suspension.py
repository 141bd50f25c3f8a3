"""Suspends and resumes a worker and everything below it, by SIGSTOP and SIGCONT, which no process can refuse.

This is the way where there is no cgroup for the worker. A cgroup is better: its processes cannot notice it, and none
has to be searched. A process that the handler has stopped itself stays stopped. A suspended process can be killed.
"""

import os
import signal
import time

from engine.adapters.kernel.descendants import descendants, send, stat_fields

_GROWING_S_MAX = 0.004  # a tree that grows faster than it can be stopped is stopped as far as it is known
_PAGE_BYTES = os.sysconf("SC_PAGESIZE")


def suspend(pid: int) -> set[int]:
    """Stop the process `pid`, then all below it, until a look finds no new one.

    Returns the pids of those that were not stopped before.
    """
    stopped, seen = set[int](), set[int]()
    until_s = time.monotonic() + _GROWING_S_MAX
    fresh = [pid]
    while fresh:
        for one in fresh:
            seen.add(one)
            if not _is_stopped(one) and send(one, signal.SIGSTOP):
                stopped.add(one)
        fresh = [one for one in descendants(pid) if one not in seen] if time.monotonic() < until_s else []
    return stopped


def resume(pid: int, stopped: set[int]) -> None:
    """Continue those of `stopped`, which `suspend` returned, that are still below `pid`: children before parents.

    A process that is not below `pid` any more has ended, and its number may belong to another one.
    """
    for one in [*reversed(descendants(pid)), pid]:
        if one in stopped:
            send(one, signal.SIGCONT)


def own_bytes(pid: int) -> int:
    """Memory in bytes of the process `pid` and everything below it, without the files that they map.

    Shared pages count for each process. A worker shares pages with its fork server until one of them writes to them.
    """
    pages = 0
    for one in [pid, *descendants(pid)]:
        try:
            with open(f"/proc/{one}/statm", "rb") as file:
                _, resident, shared, *_ = map(int, file.read().split())
        except OSError:
            continue
        pages += resident - shared
    return pages * _PAGE_BYTES


def _is_stopped(pid: int) -> bool:
    fields = stat_fields(pid)
    return fields is not None and fields[0] in "Tt"
