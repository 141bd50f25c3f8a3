"""What the kernel knows of the processes of a tree, through psutil.

A process that ends while it is looked at is left out. CPU is a share of one
core since the last look, as in `top`; what is counted per second is so, too.
"""

import os
import socket
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import psutil

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_USAGE = ("cpu_percent", "memory_info")
_REST = ("num_threads", "cmdline", "num_ctx_switches", "io_counters", "num_fds")


def host_name() -> str:
    return socket.gethostname()


def _origin(pid: int) -> tuple[int, int] | None:
    """Its parent, and the clock tick since boot at which it began; None if it is gone, or hidden.

    psutil's `ppid` makes sure of the process once more, which costs as much as a look.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            fields = stat.read().rpartition(b") ")[2].split()
    except OSError:  # gone, not to be seen by us, or no descriptor to look with
        return None
    return None if fields[0] in (b"Z", b"X") else (int(fields[1]), int(fields[19]))


class CpuShare:
    """The part of the host's processor time that was used since the last call, from 0 to 1; 0 where /proc does not tell
    (ProcSubset=pid)."""

    def __init__(self) -> None:
        self()

    def __call__(self) -> float:
        try:
            return psutil.cpu_percent() / 100
        except OSError:
            return 0.0


class _Counts(NamedTuple):
    """What the kernel counts of a process from its beginning on; None where we may not look."""

    at_s: float
    read_bytes: int | None
    write_bytes: int | None
    context_switches: int | None


_NO_RATES: dict[str, float | None] = dict.fromkeys(
    ("read_bytes_per_s", "write_bytes_per_s", "context_switches_per_s"))


class _Watched:
    """A process, and what is kept of it between two looks. `born_at` tells it from a later one of the same pid."""

    def __init__(self, pid: int, born_at: int) -> None:
        self.process, self.born_at, self.ppid = psutil.Process(pid), born_at, 0
        self.pss_bytes: int | None = None
        self._counts: _Counts | None = None
        self._rest: dict[str, Any] | None = None  # of what was seen last, all but CPU and memory

    def look(self, fully: bool) -> dict[str, Any]:
        """Raises `psutil.Error` if it is gone."""
        with self.process.oneshot():
            if fully or self._rest is None:
                self._rest = self._look_at_rest()
            else:
                self._rest |= _NO_RATES  # they are not of this second
            usage = self.process.as_dict(_USAGE, ad_value=None)
            age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - self.born_at / _TICKS_PER_S
        memory = usage["memory_info"]
        return {
            "pid": self.process.pid, "ppid": self.ppid, "cpu_percent": usage["cpu_percent"],
            "rss_bytes": memory and memory.rss, "pss_bytes": self.pss_bytes, "age_s": round(max(0.0, age_s), 1),
            **self._rest}

    def _look_at_rest(self) -> dict[str, Any]:
        facts = self.process.as_dict(_REST, ad_value=None)
        reads, switches = facts["io_counters"], facts["num_ctx_switches"]
        counts = _Counts(time.monotonic(), reads and reads.read_bytes, reads and reads.write_bytes,
                         switches and switches.voluntary + switches.involuntary)
        return {"title": " ".join(facts["cmdline"] or [])[:200], "threads": facts["num_threads"],
                "open_files": facts["num_fds"], **self._rates(counts)}

    def weigh(self) -> None:
        """Read the memory that is its own, with its part of what it shares: a walk through its page tables."""
        try:
            self.pss_bytes = self.process.memory_full_info().pss
        except psutil.AccessDenied:  # another user's
            self.pss_bytes = None

    def _rates(self, now: _Counts) -> dict[str, float | None]:
        before, self._counts = self._counts, now
        if before is None or now.at_s <= before.at_s:
            return _NO_RATES
        pairs = zip(_NO_RATES, before[1:], now[1:], strict=True)
        return {name: None if old is None or new is None else round((new - old) / (now.at_s - before.at_s), 1)
                for name, old, new in pairs}


class Probe:
    """Samples `root_pid` and everything below it, which `descendants` names. Keeps the processes between two looks.

    psutil's own list of descendants reads all processes of the host, and costs more than the looks.
    """

    def __init__(self, root_pid: int, descendants: Callable[[int], Iterable[int]]) -> None:
        self._root_pid, self._descendants = root_pid, descendants
        self._known: dict[int, _Watched] = {}
        self._turn = 0

    def sample(self, *, fully: bool = True) -> dict[int, dict[str, Any]]:
        """By pid: ppid, title, cpu_percent, rss_bytes, pss_bytes, threads, open_files, age_s, and per second
        read_bytes, write_bytes (of disks) and context_switches. One process in turn is weighed for its pss_bytes; the
        others have those of their last time. Unless `fully`, only CPU, memory and age are new, and what is per second
        is None."""
        self._meet([self._root_pid, *self._descendants(self._root_pid)])
        if fully:
            self._weigh_one()
        samples = {}
        for pid, watched in self._known.items():
            try:
                samples[pid] = watched.look(fully)
            except psutil.Error:
                continue
        return samples

    def _meet(self, pids: Iterable[int]) -> None:
        known = {}
        for pid in pids:
            watched, origin = self._known.get(pid), _origin(pid)
            if origin is None:
                continue
            ppid, born = origin
            try:
                known[pid] = watched if watched is not None and watched.born_at == born else _Watched(pid, born)
            except psutil.Error:
                continue
            known[pid].ppid = ppid
        self._known = known

    def _weigh_one(self) -> None:
        """The next in turn."""
        watched = list(self._known.values())
        if not watched:
            return
        self._turn = (self._turn + 1) % len(watched)
        try:
            watched[self._turn].weigh()
        except psutil.Error:
            return
