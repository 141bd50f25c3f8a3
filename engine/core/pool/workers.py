"""The lifecycle of a pool's workers: when they are started, replaced and retired, and what their deaths cost.

Duties
1. Keep as many workers as the pool's size; start a replacement before the worker that it replaces exits.
2. Charge the restart budget for each worker that dies while it boots or is idle; pause, then give up, when it is spent.
3. If the user's own start hook fails, try again for ever: what the hook needs may come back.
4. Retire a worker that has served its number of runs, was interrupted, or has lowered its own CPU priority for good.
"""

from engine.core.pool.actions import Action, Halt, Quit, Send, Spawn, TakeBack, Unwatch, Watch
from engine.core.pool.deadlines import Deadlines
from engine.core.pool.replacement import Replacements
from engine.core.pool.slot import NEVER, Phase, Run, Slot
from engine.core.pool.window import PATIENCE_S, Windows
from engine.core.task.limits import Limits
from engine.core.task.outcome import Cause
from engine.core.tree.restart import RestartBudget
from engine.core.worker import frames

INTERRUPTED = (frames.SOFT_TIMEOUT, frames.INTERRUPTED)  # verdicts on runs that an exception of ours has ended
IDLE = (Phase.UP, Phase.STANDBY)
REPLACEMENT_AHEAD_S = 0.02  # a replacement is started so long before it is needed; booting takes some milliseconds
LEAVES_MEMORY_S_MIN = 0.001  # a shorter run can't leave much memory behind
_SHORTEST_S = 1e-6
_BUDGET_SPENT = "workers die faster than the restart budget allows"


class WorkerLifecycle:
    """Works on the slots of a dispatcher. `tasks_max`: runs after which a worker is replaced; 0 is never."""

    def __init__(self, slots: list[Slot], actions: list[Action], deadlines: Deadlines, budget: RestartBudget,
                 windows: Windows, tasks_max: int) -> None:
        self.slots, self.actions, self.deadlines, self.budget = slots, actions, deadlines, budget
        self.windows, self.tasks_max = windows, tasks_max
        self.starts = RestartBudget(budget.intensity, budget.period_s)  # only for its pauses
        self.replacements = Replacements(slots, self.spawn)
        self.draining = False

    def start(self, now_s: float) -> None:
        """The fork server is ready: start a worker in each slot that counts and has none."""
        for slot in self.slots:
            if slot.phase is Phase.DOWN and slot.counts_toward_size and not self.draining:
                self.spawn(slot, now_s)

    def booted(self, slot: Slot, pid: int, now_s: float) -> None:
        """A worker has said ready."""
        slot.phase, slot.deadline_s, slot.pid = Phase.UP if slot.counts_toward_size else Phase.STANDBY, NEVER, pid
        if slot.counts_toward_size:
            self.plan_retirement(slot, now_s)
            return
        worker = self.replacements.worker_of(slot)
        if worker is not None and worker.leaving:
            self.leave(worker, now_s)

    def exited(self, slot: Slot, now_s: float, *, is_own_fault: bool, stranded: bool) -> None:
        """A worker is gone and has no runs any more: empty its slot, and start what comes after it.

        `is_own_fault`: its death is charged to the restart budget. `stranded`: it died with its fork server.
        """
        worker = self.replacements.lost(slot)
        replacement = self.replacements.take_over(slot)
        self.slots[slot.index] = emptied = Slot(slot.index, restarts=slot.restarts + 1,
                                                counts_toward_size=slot.counts_toward_size)
        if self.draining or stranded:
            return
        if replacement is not None:
            self.plan_retirement(replacement, now_s)
        if slot.start_failed:
            self._try_again(emptied, worker, now_s)
        elif not emptied.counts_toward_size:
            self._lost_uncounted(worker, is_own_fault, now_s)
        elif is_own_fault:
            self._spawn_later(emptied, now_s)
        else:
            self.spawn(emptied, now_s)

    def replace(self, slot: Slot, now_s: float, *, at_once: bool) -> None:
        """Put a fresh worker into a slot: when this one has answered for its run, or at once."""
        if slot.phase not in (Phase.UP, Phase.SUSPENDED):
            return  # there is a fresh one under way
        if at_once:
            self.deadlines.kill(slot, None)
        elif not slot.counts_toward_size:  # it is suspended: after its run
            slot.retiring = True
        elif not slot.leaving and not self.draining:
            slot.leaving = True
            self.replacements.prepare(slot, now_s)
            if not self.replacements.is_booting(slot):
                self.leave(slot, now_s)

    def spawn(self, slot: Slot, now_s: float) -> None:
        """Start a process in an empty slot; it has `boot_s` to become ready."""
        assert slot.phase is Phase.DOWN, "one process per slot"
        slot.phase, slot.started_s = Phase.BOOTING, now_s
        self.deadlines.set(slot, now_s + self.deadlines.timing.boot_s)
        self.actions.append(Spawn(slot.index))

    def send(self, slot: Slot, run: Run, now_s: float) -> None:
        """Give a worker a run, behind those that it has."""
        slot.runs.append(run)
        if slot.limits is None and run.policy.limits is not None:
            self.hold_to_limits(slot, run.policy.limits, now_s)
        self.actions.append(Send(slot.index, run))
        if len(slot.runs) == 1:
            self.deadlines.begin(slot, now_s)
        elif len(slot.runs) == 2:
            self.deadlines.set(slot, min(slot.deadline_s, slot.since_s + PATIENCE_S))

    def deadline_passed(self, slot: Slot, now_s: float) -> None:
        """The moment `deadline_s` of a slot has come; see `Phase` for what that means."""
        if slot.phase is Phase.DOWN:
            self.spawn(slot, now_s)
        elif slot.runs:
            self.deadlines.overdue(slot, now_s)
        elif slot.phase is Phase.STANDBY:
            self.dismiss(slot, now_s)
        else:
            slot.boot_timed_out = slot.phase is Phase.BOOTING
            self.deadlines.kill(slot, None)

    def add(self, now_s: float) -> None:
        """Start one more worker that counts toward the pool's size."""
        slot = self.replacements.free_slot()
        slot.counts_toward_size = True
        self.spawn(slot, now_s)

    def promote(self, slot: Slot, now_s: float) -> None:
        """Count a worker on standby toward the pool's size from now on."""
        slot.counts_toward_size, slot.phase, slot.deadline_s = True, Phase.UP, NEVER
        if not slot.served:
            self.plan_retirement(slot, now_s)

    def _spawn_later(self, slot: Slot, now_s: float) -> None:
        if self.budget.spend(now_s):
            self.deadlines.set(slot, now_s + self.budget.next_pause_s())
        else:
            self.actions.append(Halt(_BUDGET_SPENT))

    def _try_again(self, slot: Slot, worker: Slot | None, now_s: float) -> None:
        """A worker could not start. If it was the replacement of `worker`, that is retired without one."""
        self.starts.spend(now_s)
        if slot.counts_toward_size:
            self.deadlines.set(slot, now_s + self.starts.next_pause_s())
        elif worker is not None and worker.leaving:
            self.leave(worker, now_s)

    def _lost_uncounted(self, worker: Slot | None, is_own_fault: bool, now_s: float) -> None:
        """A process that did not count is gone. If it was the replacement of `worker`, that is retired without one."""
        if is_own_fault and not self.budget.spend(now_s):
            self.actions.append(Halt(_BUDGET_SPENT))
        elif worker is not None and worker.leaving:
            self.leave(worker, now_s)
        for other in self.slots:  # there is room for another replacement now
            if other.served >= other.retire_at and other.phase is Phase.UP:
                self.near_retirement(other, b"", now_s)

    # -- retiring -------------------------------------------------------------------------------------------------

    def plan_retirement(self, slot: Slot, now_s: float) -> None:
        """A worker counts from now on: have its replacement ready when it has served its number of runs."""
        if self.tasks_max:
            ahead = min(self.tasks_max, 1 + int(REPLACEMENT_AHEAD_S / max(self.windows.mean_s, _SHORTEST_S)))
            slot.retire_at = self.tasks_max - ahead
            if not slot.retire_at:
                self.near_retirement(slot, b"", now_s)

    def near_retirement(self, slot: Slot, last_verdict: bytes, now_s: float) -> None:
        """A worker has nearly served its number of runs, or its last run was interrupted, as `last_verdict` says."""
        if last_verdict in INTERRUPTED or slot.served >= self.tasks_max:
            self._stop_sending(slot)
        elif not self.draining and slot.counts_toward_size and self.replacements.prepare(slot, now_s):
            slot.retire_at = self.tasks_max

    def hold_to_limits(self, slot: Slot, limits: Limits, now_s: float) -> None:
        """Hold a worker to limits, with the first of the runs that have them."""
        slot.limits = limits
        self.actions.append(Watch(slot.index, limits))
        if limits.nice:
            self.replacements.prepare(slot, now_s)

    def limited_run_ended(self, slot: Slot, limits: Limits, wall_s: float) -> None:
        """A run that had limits has ended after `wall_s` seconds. The runs behind it have the same limits."""
        if not slot.runs:
            self.lift_limits(slot, limits)
        elif wall_s >= LEAVES_MEMORY_S_MIN:  # the memory that it has left must not be charged to the next run
            self.actions.append(Watch(slot.index, limits))

    def exceeded(self, slot: Slot, limits: Limits, cause: Cause, message: str) -> None:
        """A run has passed one of these limits: kill its worker, if it is still held to them."""
        if slot.limits is limits and slot.runs and slot.phase is not Phase.DYING:
            slot.limit_message = message
            self.deadlines.kill(slot, cause)

    def lift_limits(self, slot: Slot, limits: Limits) -> None:
        """The last of the runs that had these limits has ended."""
        slot.limits = None
        self.actions.append(Unwatch(slot.index))
        if limits.nice:  # a process without privileges cannot raise its priority again
            self._stop_sending(slot)

    def leave(self, slot: Slot, now_s: float) -> None:
        """Retire a worker as soon as it has no run left."""
        self._stop_sending(slot)
        self.retire(slot, now_s)

    def dismiss(self, slot: Slot, now_s: float) -> None:
        """A worker that does not count is not needed any more: let it go, after its run if it has one."""
        replacement = self.replacements.detach(slot)
        if replacement is not None:
            self.dismiss(replacement, now_s)
        if slot.phase is Phase.DOWN:
            slot.deadline_s = NEVER
        elif slot.phase is Phase.BOOTING:
            self.deadlines.kill(slot, None)
        elif slot.phase in IDLE:
            self.leave(slot, now_s)

    def _stop_sending(self, slot: Slot) -> None:
        """Give a worker no more runs, and take back those that it has not begun."""
        if not slot.retiring:
            slot.retiring = True
            if slot.runs:
                self.actions.append(TakeBack(slot.index))

    def kill_all(self) -> None:
        """End every worker now, and start none."""
        for slot in self.slots:
            if slot.phase is Phase.DOWN:
                slot.deadline_s = NEVER
            else:
                self.deadlines.kill(slot, None)

    def kill_busy(self) -> None:
        """End every worker that has runs."""
        for slot in self.slots:
            if slot.runs:
                self.deadlines.kill(slot, None)

    def retire(self, slot: Slot, now_s: float) -> None:
        """Tell a worker to exit if it has no runs and is to be retired, or the pool drains."""
        if self.draining and slot.phase is Phase.DOWN:
            slot.deadline_s = NEVER
        elif self.draining and slot.phase is Phase.BOOTING:
            self.deadlines.kill(slot, None)
        elif slot.phase in IDLE and not slot.runs and (self.draining or slot.retiring):
            if not self.draining and slot.counts_toward_size:
                self.replacements.prepare(slot, now_s)
                replacement = self.replacements.take_over(slot)
                if replacement is not None and replacement.phase is Phase.UP:
                    self.plan_retirement(replacement, now_s)
            slot.phase = Phase.QUITTING
            self.deadlines.set(slot, now_s + self.deadlines.timing.quit_s)
            self.actions.append(Quit(slot.index))
