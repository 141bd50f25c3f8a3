"""Decides which run is suspended so that an urgent one can start at once, and when it is resumed.

A pool executes as many runs at a time as its size. When all workers are busy and an URGENT task waits, the run of the
lowest priority is suspended, and another worker counts toward the size instead of its own: one on standby, or the first
time a fresh one. The suspended run is resumed as soon as a worker that counts has nothing to do; that worker goes on
standby then.

    the run        UP ── suspend ──► SUSPENDED, its worker no longer counts ── resume ──► UP, counted again
    the standby    (not counted) STANDBY ── takes over ──► UP ── gives way to the resumed run ──► STANDBY

1. Never do more runs go on at a time than the pool's size. One exception: a run that is to end, until it has ended.
2. Only URGENT runs preempt others: any of a lower priority whose handler is preemptible, the lowest first.
3. Nothing is suspended while a worker is about to be free: one that boots or exits, or whose run has only just begun.
4. Suspended runs are bounded in number, in memory, and each in the time for which it is suspended.
5. A suspended run does not age: its deadlines move by as long as it was suspended.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from engine.core.pool import dealing
from engine.core.pool.actions import Action, Resume, Suspend
from engine.core.pool.slot import NEVER, Phase, Run, Slot
from engine.core.pool.window import PATIENCE_S, Windows
from engine.core.pool.workers import WorkerLifecycle
from engine.core.task.priority import TaskPriority

REFUSED_PAUSE_S = 1.0  # no other try for so long, once all runs that could be suspended were found too large
STANDBY_S = 60.0  # a worker on standby that is not needed for so long is let go
_URGENT = int(TaskPriority.URGENT)
_BEFORE_A_RUN = (Phase.DOWN, Phase.BOOTING)
_PASSING = (Phase.DOWN, Phase.BOOTING, Phase.QUITTING, Phase.DYING)


@dataclass(frozen=True, slots=True)
class PreemptionLimits:
    """How many runs may be suspended, and for how long.

    `suspended_max`: runs at a time; 0 turns preemption off.
    `suspended_bytes_max`: memory that they may hold together; 0 is no limit.
    `suspended_s_max`: seconds for which each of them may be suspended in all; 0 is no limit.
    """

    suspended_max: int = 0
    suspended_bytes_max: int = 0
    suspended_s_max: float = 0.0


class Preemption:
    """Works on the slots of a dispatcher.

    `weigh` returns the memory in bytes of the worker in a slot and everything below it.
    """

    def __init__(self, slots: list[Slot], actions: list[Action], workers: WorkerLifecycle, limits: PreemptionLimits,
                 weigh: Callable[[int], int]) -> None:
        self.slots, self.actions, self.workers, self.limits = slots, actions, workers, limits
        self.is_on = limits.suspended_max > 0
        self.is_active = False  # a run is suspended
        self.ripe_s = NEVER  # when a run could be suspended, if nothing happens until then
        self.suspended_count = 0  # since the pool has started
        self._weigh = weigh
        self._refused_until_s = 0.0

    def suspended(self) -> list[Slot]:
        return [slot for slot in self.slots if slot.phase is Phase.SUSPENDED]

    # -- room -----------------------------------------------------------------------------------------------------

    def room(self, now_s: float) -> int:
        """For how many urgent runs others could be suspended now."""
        ripe_s = self._ripe_s()
        if ripe_s <= now_s:
            self.ripe_s = NEVER
            return max(0, min(self.limits.suspended_max - len(self.suspended()), len(self._candidates())))
        self.ripe_s = ripe_s
        return 0

    def is_possible(self) -> bool:
        """Whether a run could be suspended, now or in a moment."""
        return any(map(self._may_suspend, self.slots)) and len(self.suspended()) < self.limits.suspended_max

    def is_overdue(self, now_s: float) -> bool:
        """Whether a run has been suspended for as long as it may be."""
        return any(self._was_suspended_long(slot, now_s) for slot in self.suspended())

    def _ripe_s(self) -> float:
        """From when on no worker is about to be free; NEVER if something has to happen first."""
        ripe_s = self._refused_until_s
        for slot in self.slots:
            if not slot.counts_toward_size:
                continue
            if not slot.runs or slot.phase in _PASSING:
                return NEVER
            ripe_s = max(ripe_s, slot.since_s + PATIENCE_S)
        return ripe_s

    def _candidates(self) -> list[Slot]:
        """The workers whose runs may be suspended, the first choice first."""
        return sorted(filter(self._may_suspend, self.slots), key=_victim_order)

    def _may_suspend(self, slot: Slot) -> bool:
        if slot.phase is not Phase.UP or not slot.counts_toward_size or slot.leaving or slot.interrupted:
            return False
        if len(slot.runs) != 1:
            return False
        run, suspended_s_max = slot.runs[0], self.limits.suspended_s_max
        return run.priority < _URGENT and run.policy.preemptible and run.cancelled is None and (
            not suspended_s_max or run.suspended_s < suspended_s_max)

    # -- the order of runs ----------------------------------------------------------------------------------------

    def fill(self, backlog: deque[Run], windows: Windows, now_s: float) -> None:
        """Hand out urgent runs, and suspend others where there is no room; then resume what can be resumed."""
        if self.is_active:
            self._resume_some(now_s, 0, only_overdue=True)
        urgent = deque(run for run in backlog if run.priority == _URGENT)
        self._deal(urgent, backlog, windows, now_s)
        while urgent and self._preempt(now_s):
            self._deal(urgent, backlog, windows, now_s)
        if self.is_active:
            self._resume_some(now_s, len(urgent))

    def _deal(self, urgent: deque[Run], backlog: deque[Run], windows: Windows, now_s: float) -> None:
        for slot, run in dealing.deal(urgent, self.slots, windows, now_s, self.workers.tasks_max):
            backlog.remove(run)
            self.workers.send(slot, run, now_s)

    # -- suspending -----------------------------------------------------------------------------------------------

    def _preempt(self, now_s: float) -> bool:
        """Suspend a run, and have another worker count instead. Returns whether one could be suspended."""
        if not self.room(now_s):
            return False
        left = self.limits.suspended_bytes_max - sum(slot.suspended_bytes for slot in self.suspended())
        for victim in self._candidates():
            victim.suspended_bytes = self._weigh(victim.index) if self.limits.suspended_bytes_max else 0
            if victim.suspended_bytes <= left or not self.limits.suspended_bytes_max:
                self._suspend(victim, now_s)
                return True
        self._refused_until_s = now_s + REFUSED_PAUSE_S
        return False

    def _suspend(self, victim: Slot, now_s: float) -> None:
        replacement = self.workers.replacements.detach(victim)
        victim.phase, victim.counts_toward_size, victim.deadline_s = Phase.SUSPENDED, False, NEVER
        victim.suspended_at_s = now_s
        self.actions.append(Suspend(victim.index, victim.runs[0]))
        self.is_active = True
        self.suspended_count += 1
        self.add_worker(now_s, replacement)

    # -- resuming -------------------------------------------------------------------------------------------------

    def _resume_some(self, now_s: float, wanted: int, *, only_overdue: bool = False) -> None:
        """Resume suspended runs instead of workers that count and have nothing to do.

        `wanted`: urgent runs that wait for workers which are still booting. `only_overdue`: only runs that have been
        suspended for as long as they may be.
        """
        suspended = sorted(self.suspended(), key=_resume_order)
        if only_overdue:
            suspended = [slot for slot in suspended if self._was_suspended_long(slot, now_s)]
        for slot in self.slots[:] if suspended else []:
            if not slot.counts_toward_size or slot.runs or slot.retiring or not suspended:
                continue
            if slot.phase in _BEFORE_A_RUN and wanted > 0:
                wanted -= 1
            elif slot.phase is Phase.UP or slot.phase in _BEFORE_A_RUN:
                self._stand_down(slot, now_s)
                self._resume(suspended.pop(0), now_s, counts_toward_size=True)
        self.is_active = bool(self.suspended())

    def _stand_down(self, slot: Slot, now_s: float) -> None:
        """No longer count a worker, which may be booting or not even be there yet."""
        replacement = self.workers.replacements.detach(slot)
        if replacement is not None:
            self.workers.dismiss(replacement, now_s)
        slot.counts_toward_size = False
        if slot.phase is Phase.UP:
            slot.phase = Phase.STANDBY
            self.stand_by(slot, now_s)
        elif slot.phase is Phase.DOWN:
            slot.deadline_s = NEVER

    def _resume(self, slot: Slot, now_s: float, *, counts_toward_size: bool) -> None:
        run = slot.runs[0]
        suspended_s = slot.suspended_s(now_s) - run.suspended_s
        slot.phase, slot.counts_toward_size = Phase.UP, counts_toward_size
        slot.suspended_at_s, slot.suspended_bytes = None, 0
        slot.since_s += suspended_s
        run.suspended_s += suspended_s
        self.actions.append(Resume(slot.index, run, suspended_s))
        self.workers.deadlines.set(slot, self.workers.deadlines.next_look_s(slot, now_s))

    def let_end(self, slot: Slot, now_s: float) -> None:
        """Resume a suspended run beside the others, since it is to end."""
        slot.retiring = True
        self._resume(slot, now_s, counts_toward_size=False)

    def had_answered(self, slot: Slot, now_s: float) -> None:
        """A run had ended before it was suspended, and its answer came after: put its worker on standby."""
        slot.phase, slot.suspended_at_s, slot.suspended_bytes = Phase.STANDBY, None, 0
        self.actions.append(Resume(slot.index, None, 0.0))
        self.stand_by(slot, now_s)
        self.workers.retire(slot, now_s)

    def _was_suspended_long(self, slot: Slot, now_s: float) -> bool:
        suspended_s_max = self.limits.suspended_s_max
        return suspended_s_max > 0 and slot.suspended_s(now_s) >= suspended_s_max

    def add_worker(self, now_s: float, preferred: Slot | None = None) -> None:
        """Have one more worker count: one on standby, `preferred` if it is there, or else a fresh one."""
        ready = self.standby()
        if not ready:
            self.workers.add(now_s)
        else:
            self.workers.promote(preferred if preferred in ready else ready[0], now_s)

    # -- standby --------------------------------------------------------------------------------------------------

    def standby(self) -> list[Slot]:
        """Workers on standby that are no replacement of a particular worker."""
        return [slot for slot in self.slots if slot.phase is Phase.STANDBY and not slot.counts_toward_size
                and not slot.retiring and self.workers.replacements.worker_of(slot) is None]

    def stand_by(self, slot: Slot, now_s: float) -> None:
        """A worker that does not count is ready. Keep one such, and let others go."""
        if len(self.standby()) > 1:
            self.workers.dismiss(slot, now_s)
        else:
            self.workers.deadlines.set(slot, now_s + STANDBY_S)


def _victim_order(slot: Slot) -> tuple[int, float, float]:
    """The lowest priority first, then the run that was suspended the least so far, then the one that began last."""
    run = slot.runs[0]
    return run.priority, run.suspended_s, -slot.since_s


def _resume_order(slot: Slot) -> tuple[int, float]:
    """The highest priority first, then the run that has been suspended the longest."""
    assert slot.suspended_at_s is not None, "it is suspended"
    return -slot.runs[0].priority, slot.suspended_at_s
