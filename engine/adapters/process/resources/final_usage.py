"""What a run has used whose worker has died: its own, and that of the processes that it has started.

The kernel tells what a process used in its whole life. So a worker writes onto a page that it shares with its pool what
it had used at the beginning and at the end of each run that is measured: two numbers, and no system call more.
"""

import os
import time
from collections.abc import Callable
from functools import partial
from struct import Struct
from typing import Any, NamedTuple

from engine.adapters.kernel import prctl
from engine.adapters.kernel.descendants import stat_fields
from engine.adapters.process.between_runs.baseline import kilobytes, ticks_of

SLOTS_MAX = 4096
_MARK = Struct("=dd")
_BYTES = SLOTS_MAX * _MARK.size
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_START, _RSS = 19, 21  # fields of /proc/PID/stat
_PAGE_BYTES = os.sysconf("SC_PAGESIZE")
_LOOKED_AT_MAX = 256  # processes of one run: a look takes about 40 µs

Write = Callable[[float, float], object]


class UsageMark(NamedTuple):
    """`cpu_s` is what the worker and the children that it has waited for had used at the moment `at_s` (monotonic)."""

    cpu_s: float
    at_s: float


class UsagePage:
    """The marks of all workers of a pool, by slot. `fd` names it for the fork server; the pool keeps it."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("ganger-marks", os.MFD_CLOEXEC)
        os.ftruncate(self.fd, _BYTES)
        self._memory = prctl.map_shared(self.fd, _BYTES)

    def read(self, slot: int) -> UsageMark:
        """The last mark of the worker in `slot`."""
        if slot >= SLOTS_MAX:
            return UsageMark(0.0, 0.0)
        return UsageMark(*_MARK.unpack_from(self._memory, slot * _MARK.size))

    def close(self) -> None:
        """Give the page back."""
        prctl.unmap(self._memory)
        os.close(self.fd)


class UsageMarks:
    """The same page in the fork server and its workers, which need no descriptor of it."""

    def __init__(self, fd: int, *, keep: bool = False) -> None:
        """`keep`: fresh interpreters will need the descriptor."""
        self._memory = prctl.map_shared(fd, _BYTES)
        if keep:
            os.set_inheritable(fd, False)
        else:
            os.close(fd)

    def writer(self, slot: int) -> Write:
        """For the worker in that slot."""
        if slot >= SLOTS_MAX:
            return lambda cpu_s, at_s: None
        return partial(_MARK.pack_into, self._memory, slot * _MARK.size)


class FinalUsage:
    """Of the worker in one slot; `close` when it stands still and is about to be killed, `usage` when it is gone."""

    def __init__(self, page: UsagePage | None, slot: int) -> None:
        self._page, self._slot = page, slot
        self._children_s = 0.0
        self._peak_bytes: int | None = None

    def close(self, worker: int, below: list[int]) -> None:
        """`below` are the processes below the worker; those that earlier runs have left are passed over."""
        assert self._page is not None
        before_ticks = self._page.read(self._slot).at_s * _TICKS_PER_S + _since_boot_ticks()
        ticks, held_bytes = 0, 0
        for pid in below[:_LOOKED_AT_MAX]:
            fields = stat_fields(pid)
            if fields is not None and int(fields[_START]) >= int(before_ticks):
                ticks += ticks_of(fields)
                held_bytes += _peak_bytes(pid)
        own = stat_fields(worker)
        now_bytes = int(own[_RSS]) * _PAGE_BYTES if own is not None else 0
        self._children_s = ticks / _TICKS_PER_S
        self._peak_bytes = max(_peak_bytes(worker), now_bytes + held_bytes)

    def usage(self, life: dict[str, Any], seen_bytes: int) -> dict[str, Any]:
        """`life` is what the kernel told of the worker's whole life; `seen_bytes` is the most that a look has seen."""
        if "cpu_s" not in life or self._page is None:
            return life
        mark = self._page.read(self._slot)
        peak_bytes = life["peak_rss_bytes"] if self._peak_bytes is None else self._peak_bytes
        return {"cpu_s": round(max(0.0, life["cpu_s"] - mark.cpu_s) + self._children_s, 6),
                "peak_rss_bytes": max(peak_bytes, seen_bytes), "since_s": mark.at_s}


def _peak_bytes(pid: int) -> int:
    return sum(kilobytes(f"/proc/{pid}/status", (b"VmHWM",)))


def _since_boot_ticks() -> float:
    """By how much the clock by which processes start is ahead of the monotonic one, which stands during a suspend."""
    return (time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()) * _TICKS_PER_S
