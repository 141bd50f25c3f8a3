"""The life of a pool's workers: started, replaced, let go, and what their deaths cost.

Duties
1. Keep a worker in each place, started before the one that it replaces goes.
2. Charge the restart budget with each that dies while it boots or has nothing to do; pause, and give up, by it.
3. Try again, and never give up, where the user's own hook does not let a worker start: what it needs may come back.
4. Let a worker go that has served its time, was interrupted, or has stepped back for good.
"""

from engine.core.pool.commands import Command, Halt, Quit, Spawn, TakeBack, Unwatch, Watch
from engine.core.pool.deadlines import Deadlines
from engine.core.pool.replacement import Succession
from engine.core.pool.slot import NEVER, Phase, Slot
from engine.core.pool.window import Windows
from engine.core.task.limits import Limits
from engine.core.tree.restart import RestartBudget

INTERRUPTED = (b"S", b"I")  # words of a worker whose run was ended by an exception of ours
IDLE = (Phase.UP, Phase.STANDBY)
HEIR_AHEAD_S = 0.02  # an heir is started so long before it will be needed; it takes some milliseconds
LEAVES_S_MIN = 0.001  # a shorter run can't leave much memory behind
_SHORTEST_S = 1e-6
_GIVES_UP = "workers die faster than the restart budget allows"


class Crew:
    """Works on the slots of a dispatcher. `tasks_max`: runs after which a worker is replaced; 0 is never."""

    def __init__(self, slots: list[Slot], commands: list[Command], deadlines: Deadlines, budget: RestartBudget,
                 windows: Windows, tasks_max: int) -> None:
        self.slots, self.commands, self.deadlines, self.budget = slots, commands, deadlines, budget
        self.windows, self.tasks_max = windows, tasks_max
        self.starts = RestartBudget(budget.intensity, budget.period_s)  # only for its pauses
        self.succession = Succession(slots, self.spawn)
        self.draining = False

    def start(self, now_s: float) -> None:
        """The fork server is ready: put a worker in every place that has none."""
        for slot in self.slots:
            if slot.phase is Phase.DOWN and not slot.spare and not self.draining:
                self.spawn(slot, now_s)

    def booted(self, slot: Slot, pid: int, now_s: float) -> None:
        slot.phase, slot.deadline_s, slot.pid = Phase.STANDBY if slot.spare else Phase.UP, NEVER, pid
        if not slot.spare:
            self.plan_end(slot, now_s)
            return
        worker = self.succession.worker_of(slot)
        if worker is not None and worker.leaving:
            self.leave(worker, now_s)

    def exited(self, slot: Slot, now_s: float, *, is_own_fault: bool, stranded: bool) -> None:
        """A worker is gone, and has no runs any more: empty its slot, and see who comes after it."""
        worker = self.succession.disinherit(slot)
        heir = self.succession.take_place(slot)
        self.slots[slot.index] = successor = Slot(slot.index, restarts=slot.restarts + 1, spare=slot.spare)
        if self.draining or stranded:
            return
        if heir is not None:
            self.plan_end(heir, now_s)
        if slot.start_failed:
            self._try_again(successor, worker, now_s)
        elif successor.spare:
            self._lost_spare(worker, is_own_fault, now_s)
        elif is_own_fault:
            self._spawn_later(successor, now_s)
        else:
            self.spawn(successor, now_s)

    def replace(self, slot: Slot, now_s: float, *, at_once: bool) -> None:
        """Put a fresh worker into a slot: when this one has answered for its run, or at once."""
        if slot.phase not in (Phase.UP, Phase.FROZEN):
            return  # there is a fresh one under way
        if at_once:
            self.deadlines.kill(slot, None)
        elif slot.spare:  # it stands still: after its run
            slot.retiring = True
        elif not slot.leaving and not self.draining:
            slot.leaving = True
            self.succession.prepare(slot, now_s)
            if not self.succession.is_coming(slot):
                self.leave(slot, now_s)

    def spawn(self, slot: Slot, now_s: float) -> None:
        assert slot.phase is Phase.DOWN, "one process per slot"
        slot.phase, slot.started_s = Phase.BOOTING, now_s
        self.deadlines.set(slot, now_s + self.deadlines.timing.boot_s)
        self.commands.append(Spawn(slot.index))

    def open_place(self, now_s: float) -> None:
        """A place more, with a worker of its own."""
        seat = self.succession.free_seat()
        seat.spare = False
        self.spawn(seat, now_s)

    def give_place(self, slot: Slot, now_s: float) -> None:
        """A place for a worker that stands by."""
        slot.spare, slot.phase, slot.deadline_s = False, Phase.UP, NEVER
        if not slot.served:
            self.plan_end(slot, now_s)

    def _spawn_later(self, slot: Slot, now_s: float) -> None:
        if self.budget.spend(now_s):
            self.deadlines.set(slot, now_s + self.budget.next_pause_s())
        else:
            self.commands.append(Halt(_GIVES_UP))

    def _try_again(self, slot: Slot, worker: Slot | None, now_s: float) -> None:
        """A worker could not start, perhaps as the heir of `worker`, which must do without then."""
        self.starts.spend(now_s)
        if not slot.spare:
            self.deadlines.set(slot, now_s + self.starts.next_pause_s())
        elif worker is not None and worker.leaving:
            self.leave(worker, now_s)

    def _lost_spare(self, worker: Slot | None, is_own_fault: bool, now_s: float) -> None:
        """A process without a place is gone. If it was the heir of `worker`, that must do without."""
        if is_own_fault and not self.budget.spend(now_s):
            self.commands.append(Halt(_GIVES_UP))
        elif worker is not None and worker.leaving:
            self.leave(worker, now_s)
        for one in self.slots:  # there is room for the heir of another now
            if one.served >= one.notice and one.phase is Phase.UP:
                self.near_end(one, b"", now_s)

    # -- letting go -----------------------------------------------------------------------------------------------

    def plan_end(self, slot: Slot, now_s: float) -> None:
        """A worker has its place now: see that its heir is there when it has served its number of runs."""
        if self.tasks_max:
            ahead = min(self.tasks_max, 1 + int(HEIR_AHEAD_S / max(self.windows.mean_s, _SHORTEST_S)))
            slot.notice = self.tasks_max - ahead
            if not slot.notice:
                self.near_end(slot, b"", now_s)

    def near_end(self, slot: Slot, word: bytes, now_s: float) -> None:
        """A worker has nearly served its time, or was interrupted, as the `word` of its last run says."""
        if word in INTERRUPTED or slot.served >= self.tasks_max:
            self._replace_soon(slot)
        elif not self.draining and not slot.spare and self.succession.prepare(slot, now_s):
            slot.notice = self.tasks_max

    def hold(self, slot: Slot, limits: Limits, now_s: float) -> None:
        """Hold a worker to limits, with the first of the runs that have them."""
        slot.limits = limits
        self.commands.append(Watch(slot.index, limits))
        if limits.nice:
            self.succession.prepare(slot, now_s)

    def next_of_limits(self, slot: Slot, limits: Limits, wall_s: float) -> None:
        """A run has ended that had limits; those behind it have the same."""
        if not slot.runs:
            self.let_go(slot, limits)
        elif wall_s >= LEAVES_S_MIN:  # what it has left must not be charged to the next one
            self.commands.append(Watch(slot.index, limits))

    def let_go(self, slot: Slot, limits: Limits) -> None:
        """The last of the runs that had these limits has ended."""
        slot.limits = None
        self.commands.append(Unwatch(slot.index))
        if limits.nice:  # who is not privileged can't take it back
            self._replace_soon(slot)

    def leave(self, slot: Slot, now_s: float) -> None:
        self._replace_soon(slot)
        self.retire(slot, now_s)

    def dismiss(self, slot: Slot, now_s: float) -> None:
        """A worker without a place is not wanted any more, or not after its run."""
        heir = self.succession.disown(slot)
        if heir is not None:
            self.dismiss(heir, now_s)
        if slot.phase is Phase.DOWN:
            slot.deadline_s = NEVER
        elif slot.phase is Phase.BOOTING:
            self.deadlines.kill(slot, None)
        elif slot.phase in IDLE:
            self.leave(slot, now_s)

    def _replace_soon(self, slot: Slot) -> None:
        """A worker that has served its time, or was interrupted in the middle of who knows what."""
        if not slot.retiring:
            slot.retiring = True
            if slot.runs:
                self.commands.append(TakeBack(slot.index))

    def retire(self, slot: Slot, now_s: float) -> None:
        """Let a worker go that has nothing to do and should not go on."""
        if self.draining and slot.phase is Phase.DOWN:
            slot.deadline_s = NEVER
        elif self.draining and slot.phase is Phase.BOOTING:
            self.deadlines.kill(slot, None)
        elif slot.phase in IDLE and not slot.runs and (self.draining or slot.retiring):
            if not self.draining and not slot.spare:
                self.succession.prepare(slot, now_s)
                heir = self.succession.take_place(slot)
                if heir is not None and heir.phase is Phase.UP:
                    self.plan_end(heir, now_s)
            slot.phase = Phase.QUITTING
            self.deadlines.set(slot, now_s + self.deadlines.timing.quit_s)
            self.commands.append(Quit(slot.index))
