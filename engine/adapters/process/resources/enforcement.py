"""What holds the runs of one worker to their limits: its cgroup where there is one, and a watch on what they use."""

from typing import Any

from engine.adapters.process.between_runs.baseline import held_bytes
from engine.adapters.process.pool.timers import Timers
from engine.adapters.process.resources.cgroup import WorkerCgroup, WorkerCgroups
from engine.adapters.process.resources.final_usage import FinalUsage
from engine.adapters.process.resources.limit_watch import LimitWatch
from engine.adapters.process.resources.oom import OomKiller
from engine.adapters.process.resources.usage import TreeUsage
from engine.core.task.limits import ExceededLimit, Limits
from engine.core.task.outcome import Cause
from engine.ports.host import Event, Exceeded


class ResourceEnforcer:
    """Begins when the process is known, ends with `close`. Breaches are reported as `Exceeded`."""

    def __init__(self, slot: int, timers: Timers, events: list[Event], groups: WorkerCgroups, oom_killer: OomKiller,
                 final_usage: FinalUsage) -> None:
        self._slot, self._timers, self._events, self._groups = slot, timers, events, groups
        self._oom_killer, self._oom_mark = oom_killer, oom_killer.mark()
        self.final_usage = final_usage
        self._pid = 0
        self._born_bytes: int | None = None
        self._group: WorkerCgroup | None = None
        self._watch: LimitWatch | None = None
        self.is_hungry = False  # it has passed its limit of memory

    def begin(self, pid: int) -> None:
        """The worker has the process `pid`: put it into a cgroup."""
        self._pid, self._group = pid, self._groups.make(pid)

    def booted(self) -> None:
        """Note what a worker holds before its first run: what is more before a later run, others have left."""
        self._born_bytes = held_bytes(self._pid)

    def watch(self, limits: Limits) -> None:
        """Hold the runs that are sent next to these limits."""
        def exceeded(found: ExceededLimit) -> None:
            self.is_hungry = found.cause is Cause.OUT_OF_MEMORY
            self._events.append(Exceeded(self._slot, limits, found.cause, found.message))

        if self._watch is not None:  # the run before had the same limits
            self._watch.stop()
        usage = TreeUsage(self._pid, limits, self._group, self._born_bytes)
        if self._group is not None:
            self._group.hold(limits, usage.left_bytes)
        self._watch = LimitWatch(self._pid, limits, usage, self._timers, exceeded)

    def unwatch(self) -> None:
        """Hold the runs that follow to no limits."""
        if self._watch is not None:
            self._watch.stop()
            self._watch = None
            if self._group is not None:
                self._group.let_go()

    def suspend(self) -> bool:
        """Stop everything in the cgroup; return False where there is none, or it cannot."""
        return self._group is not None and self._group.freeze()

    def resume(self) -> None:
        """Let everything in the cgroup go on."""
        if self._group is not None:
            self._group.thaw()

    def kill(self) -> None:
        """Kill everything in the cgroup, also processes that other parents have adopted."""
        if self._group is not None:
            self._group.kill()

    def oom(self) -> str | None:
        """How it is known that the kernel's OOM killer ended the worker, if it did."""
        if self._group is not None and self._group.oom_kills():
            return "its cgroup's counter rose"
        return self._oom_killer.ended(self._pid, self._oom_mark)

    def facts(self) -> dict[str, Any]:
        """For a post-mortem: what the watched run used, and its limits."""
        return {} if self._watch is None else {"usage": self._watch.facts()}

    def usage(self, life: dict[str, Any]) -> dict[str, Any]:
        """What the last run of a worker that is gone has used, by what the kernel tells of the worker's life."""
        return self.final_usage.usage(life, 0 if self._watch is None else self._watch.most_bytes)

    def close(self) -> None:
        """Nothing is left of the worker."""
        if self._watch is not None:
            self._watch.stop()
        if self._group is not None:
            self._groups.remove(self._group)
