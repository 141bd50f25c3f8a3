"""What a worker and everything below it use now: memory, CPU time, processes. From its cgroup or else from /proc.

Memory is what only these processes hold: anonymous pages, shared memory and what
of it is swapped; not the files that they read or map, which the kernel takes back when it needs room.

Two processes may share pages (a fork, shared memory), and what is shared must count once. The exact figure
(smaps_rollup) takes the kernel a tenth of a second for each GB, so it is taken only where a sum of what each
process holds is over the limit and its largest process alone is not; and in a thread, since the pool must not wait.
"""

import os
import threading
import time
from dataclasses import replace

from engine.adapters.kernel.descendants import stat_fields
from engine.adapters.process.between_runs.baseline import Baseline, held_bytes, kilobytes, ticks_of
from engine.adapters.process.resources.cgroup import WorkerCgroup
from engine.core.task.limits import Limits, Usage, needs_exact_memory

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGESIZE")
_REST_SHARE = 10  # the exact figure is taken at most a tenth of the time
_SHARES = (b"Pss_Anon", b"Pss_Shmem", b"SwapPss")


class TreeUsage:
    """Samples one worker's tree. CPU time counts from now, or from the first look where it has no limit.

    What is there already is not counted, but for the memory that a fresh worker has: `born_bytes`, None if not known.
    """

    def __init__(self, pid: int, limits: Limits, group: WorkerCgroup | None, born_bytes: int | None = None) -> None:
        self._left = Baseline(pid, born_bytes)
        self.left_bytes = self._left.own_bytes + sum(map(held_bytes, self._left.present() if group else ()))
        raised_bytes = limits.memory_bytes + self.left_bytes if limits.memory_bytes else 0
        self._limits, self._group = replace(limits, memory_bytes=raised_bytes), group
        self._shared_bytes = 0  # by how much the sum was too high when last known
        self._exact: _Exact | None = None
        self._exact_s = 0.0  # not before: it costs much
        self._cpu_s_before: float | None = None
        if limits.cpu_s:
            self.look()

    def look(self) -> Usage:
        """What is used now. Processes that end meanwhile are left out."""
        usage = self._look()
        if self._cpu_s_before is None:
            self._cpu_s_before = usage.cpu_s
        left_bytes = self.left_bytes
        return replace(usage, cpu_s=max(0.0, usage.cpu_s - self._cpu_s_before),
                       memory_bytes=max(0, usage.memory_bytes - left_bytes),
                       memory_bytes_min=max(0, usage.memory_bytes_min - left_bytes))

    def _look(self) -> Usage:
        if self._group is not None and (found := self._told_by(self._group)) is not None:
            return found
        return self._told_by_processes()

    def _told_by(self, group: WorkerCgroup) -> Usage | None:
        """What the kernel counts for a group; None if it does not count all that is wanted."""
        memory = group.memory_bytes() if self._limits.memory_bytes else 0
        if memory is None:
            return None
        cpu_s = group.cpu_s() - self._left.all_ticks() / _TICKS_PER_S
        return Usage(memory, memory, cpu_s, len(set(group.members()) - set(self._left.present())))

    def _told_by_processes(self) -> Usage:
        pids = self._left.tree()
        ticks, alive, resident = -self._left.gone_ticks(), 0, 0
        for pid in pids:
            fields = stat_fields(pid)
            if fields is None:
                continue
            ticks += ticks_of(fields)
            if fields[0] not in "ZX":
                alive += 1
                resident += int(fields[21])
        cpu_s = ticks / _TICKS_PER_S
        most = resident * _PAGE_BYTES  # with mapped files, so at least what we count
        if not self._limits.memory_bytes or most <= self._limits.memory_bytes:
            return Usage(most, 0, cpu_s, alive)
        held = [held_bytes(pid) for pid in pids]
        return self._weighed(pids, Usage(sum(held), max(held), cpu_s, alive))

    def _weighed(self, pids: list[int], sums: Usage) -> Usage:
        """The sums, corrected by what is known to be shared."""
        now_s = time.monotonic()
        if self._exact is not None and self._exact.bytes is not None:
            exact, self._exact = self._exact, None
            assert exact.bytes is not None
            self._exact_s = now_s + _REST_SHARE * exact.took_s
            self._shared_bytes = max(0, exact.sum_bytes - exact.bytes)
            if exact.bytes > self._limits.memory_bytes:
                return Usage(exact.bytes, exact.bytes, sums.cpu_s, sums.processes)
        most = max(sums.memory_bytes_min, sums.memory_bytes - self._shared_bytes)
        usage = Usage(most, sums.memory_bytes_min, sums.cpu_s, sums.processes)
        # Pages that are shared no longer, since one side wrote to them, do not change the sum: so look again and again.
        due = now_s >= self._exact_s or needs_exact_memory(self._limits, usage)
        if self._exact is None and due and needs_exact_memory(self._limits, sums):
            try:
                self._exact = _Exact(pids, sums.memory_bytes)
            except RuntimeError:  # the kernel has no thread to give: at the next look
                self._exact = None
        return usage


class _Exact:
    """The exact figure, when it has been found; `sum_bytes` is the sum at the time when it was asked for."""

    def __init__(self, pids: list[int], sum_bytes: int) -> None:
        self._pids, self.sum_bytes = pids, sum_bytes
        self.bytes: int | None = None
        self.took_s = 0.0  # of CPU time
        threading.Thread(target=self._measure, daemon=True, name="shared memory").start()

    def _measure(self) -> None:
        begun_s = time.thread_time()
        size = sum(sum(kilobytes(f"/proc/{pid}/smaps_rollup", _SHARES)) for pid in self._pids)
        self.took_s = time.thread_time() - begun_s
        self.bytes = size
