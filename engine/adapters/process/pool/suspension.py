"""Makes a worker and everything below it stand still, and go on, by SIGSTOP and SIGCONT: nobody can refuse either.

Only where there is no control group for it, which needs no looking for who is there and is noticed by nobody.
What a handler has stopped by itself stays as it is. What stands still can be killed like anything else.
"""

import os
import signal
import time

from engine.adapters.process.kernel.descendants import descendants, send, stat_fields

_GROWING_S_MAX = 0.004  # a tree that grows faster than it can be stopped stands still as far as it is known
_PAGE_BYTES = os.sysconf("SC_PAGESIZE")


def freeze(pid: int) -> set[int]:
    """Stop the process, then all below it, until a look finds nobody new; return those that were not stopped before."""
    stopped, seen = set[int](), set[int]()
    until_s = time.monotonic() + _GROWING_S_MAX
    fresh = [pid]
    while fresh:
        for one in fresh:
            seen.add(one)
            if not _stands_still(one) and send(one, signal.SIGSTOP):
                stopped.add(one)
        fresh = [one for one in descendants(pid) if one not in seen] if time.monotonic() < until_s else []
    return stopped


def thaw(pid: int, stopped: set[int]) -> None:
    """Let those go on that `freeze` has stopped, children before parents. Who is not below `pid` any more is gone, and
    its number may be another's by now."""
    for one in [*reversed(descendants(pid)), pid]:
        if one in stopped:
            send(one, signal.SIGCONT)


def own_bytes(pid: int) -> int:
    """Memory of the process and everything below it, without the files that they map; what they share counts for each,
    as it does for a worker and the fork server that it comes from until it writes to it."""
    pages = 0
    for one in [pid, *descendants(pid)]:
        try:
            with open(f"/proc/{one}/statm", "rb") as file:
                _, resident, shared, *_ = map(int, file.read().split())
        except OSError:
            continue
        pages += resident - shared
    return pages * _PAGE_BYTES


def _stands_still(pid: int) -> bool:
    fields = stat_fields(pid)
    return fields is not None and fields[0] in "Tt"
