"""Decides what a pool does with its workers and runs; does none of it.

Each method takes one event, with its moment in seconds, and appends the actions to carry out to `actions`;
`next_deadline_s` says when to call `tick` if nothing happens. No clock, process or Redis is reachable from here. Events
are methods, not objects: the two that happen once for every task (`claimed`, `replied`) are the engine's hot path.

Duties, and the part that has the details
1. Start, replace and retire workers, and give up when they die too fast: `workers`, `replacement`.
2. Hand claimed runs out, short ones several ahead; take back what waits behind a long one: `dealing`, `window`.
3. Watch the deadlines of running runs: interrupt softly, then kill: `deadlines`.
4. Judge each end once: the first decision wins, a later reply is dropped: `ending`.
5. Charge each death: of a busy worker to the task, of a booting or idle one to the restart budget, of a killed one to
   nobody.
6. Stop a handler for a while that keeps costing workers, and hold its runs back: `breaker`, `backlog`.
7. Suspend a run for an urgent one: `preemption`. Change the size of the pool: `resizing`. Neither ends a run.
8. Drain: finish the runs that have begun, give back the others.
"""

from collections import deque
from collections.abc import Callable, Iterable

from engine.core.pool import dealing, resizing
from engine.core.pool.actions import Action, TakeBack, withdraw
from engine.core.pool.backlog import Backlog
from engine.core.pool.breaker import Breaker
from engine.core.pool.deadlines import Deadlines, Timing
from engine.core.pool.ending import Ending
from engine.core.pool.preemption import Preemption, PreemptionLimits
from engine.core.pool.room import NO_ROOM, Room, room_of
from engine.core.pool.slot import NEVER, Phase, Run, Slot
from engine.core.pool.window import Windows
from engine.core.pool.workers import INTERRUPTED, WorkerLifecycle
from engine.core.task.limits import Limits
from engine.core.task.outcome import Cause, Outcome
from engine.core.tree.restart import RestartBudget


class Dispatch:
    """The decisions of one pool, whose size is `slots` at first.

    `chance` returns a random number in [0, 1). `tasks_max`: runs after which a worker is replaced; 0 is never. `weigh`
    returns the memory in bytes of the worker in a slot and everything below it.
    """

    def __init__(self, slots: int, budget: RestartBudget, windows: Windows, timing: Timing,
                 chance: Callable[[], float], tasks_max: int = 0, breaker: Breaker | None = None,
                 preemption: PreemptionLimits | None = None, weigh: Callable[[int], int] = lambda index: 0) -> None:
        self.slots = [Slot(index) for index in range(slots)]
        self.windows = windows
        self.actions: list[Action] = []
        self.breaker = breaker or Breaker()
        self.ending = Ending(self.actions, chance)
        self.backlog = Backlog(self.actions, self.ending, self.breaker)
        self.deadlines = Deadlines(self.actions, timing)
        self.workers = WorkerLifecycle(self.slots, self.actions, self.deadlines, budget, windows, tasks_max)
        self.preemption = Preemption(self.slots, self.actions, self.workers, preemption or PreemptionLimits(), weigh)
        self.runs = self.ending.runs  # every run that is ours to settle
        self.ahead = 0  # how many to have in the backlog, besides what the workers have
        self.draining = False
        self.is_stranded = False  # the fork server is gone and its workers with it, also those not yet reported
        self._grace_end_s = NEVER  # when draining turns into stopping

    # -- what the pool asks ---------------------------------------------------------------------------------------

    def room(self, now_s: float) -> Room:
        """What the next step may ask for."""
        if self.draining or self.is_stranded:
            return NO_ROOM
        return room_of(self.slots, self.windows, self.preemption, self.backlog.runs, len(self.runs), self.ahead, now_s)

    def next_deadline_s(self) -> float:
        """When `tick` has something to do if nothing happens; infinity for never."""
        return min(self.deadlines.alarm_s, self._grace_end_s, self.backlog.next_deadline_s())

    @property
    def is_empty(self) -> bool:
        """Whether there is no run to settle and no process left."""
        return not self.runs and all(slot.phase is Phase.DOWN for slot in self.slots)

    # -- the life of workers --------------------------------------------------------------------------------------

    def start(self, now_s: float) -> None:
        """The fork server is ready: start a worker in each slot that counts and has none."""
        self.is_stranded = False
        self.workers.start(now_s)

    def booted(self, index: int, pid: int, now_s: float) -> None:
        """The worker in a slot is ready."""
        slot = self.slots[index]
        if slot.phase is Phase.BOOTING:  # else it spoke while it was being killed
            self.workers.booted(slot, pid, now_s)
            if slot in self.preemption.standby():
                self.preemption.stand_by(slot, now_s)
            self.fill(now_s)

    def start_failed(self, index: int) -> None:
        """A start hook of the user's has failed in this worker, or the host had no process for it; `exited` follows."""
        self.slots[index].start_failed = True

    def exited(self, index: int, death: Callable[[Run], Outcome], unread: Iterable[int], now_s: float, *,
               stranded: bool = False) -> None:
        """A worker and everything below it is gone.

        `death` describes its death as the end of a run. `unread`: the tokens of runs that it never read. `stranded`: it
        died with the fork server, which is charged to nobody; `start` will be called when there is a new one.
        """
        slot = self.slots[index]
        self.is_stranded = self.is_stranded or stranded
        unread = {*unread, *withdraw(self.actions, index)}
        begun = self.backlog.put_back_unread(slot, unread, draining=self.draining)
        for position, run in enumerate(begun):
            if slot.phase is Phase.DYING or stranded:
                # Only the first can have been running: a worker reads nothing before it has answered.
                self.ending.killed(run, slot.kill_cause if position == 0 else None, death(run), slot.limit_message)
            else:
                self.ending.died(run, death(run))
                self.backlog.count_death(run.task_type, now_s)
        is_own_fault = not begun and slot.phase not in (Phase.DYING, Phase.QUITTING)
        self.workers.exited(slot, now_s, is_own_fault=is_own_fault, stranded=stranded)
        if not self.draining:
            self.fill(now_s)

    # -- the life of runs -----------------------------------------------------------------------------------------

    def claimed(self, runs: Iterable[Run], now_s: float) -> None:
        """Redis gave the pool these runs."""
        self.backlog.take_in(runs, now_s)
        if self.draining:
            self.backlog.release()
        else:
            self.fill(now_s)

    def replied(self, index: int, token: int, verdict: bytes, wall_s: float, outcome: bytes, now_s: float,
                after_s: float | None = None) -> None:
        """The worker answered for its first run. Call `fill` once after each batch of replies.

        `verdict` is one of `frames.VERDICTS`, `outcome` is JSON. `wall_s`: how many seconds the run took.
        `after_s`: the pause in seconds that a handler's Retry asked for.
        """
        slot = self.slots[index]
        runs = slot.runs
        if not runs or runs[0].token != token or slot.phase is Phase.DYING:
            return  # too late: the end of this run is decided
        run = runs.popleft()
        slot.served += 1
        slot.interrupted = False
        self.windows.observe(run.task_type, wall_s)
        self.ending.answered(run, verdict, outcome, after_s)
        if slot.limits is not None:
            self.workers.limited_run_ended(slot, slot.limits, wall_s)
        if slot.served >= slot.retire_at or verdict in INTERRUPTED:
            self.workers.near_retirement(slot, verdict, now_s)
        if runs:
            self.deadlines.begin(slot, now_s)
        elif slot.phase is Phase.UP:
            slot.deadline_s = NEVER
            self.workers.retire(slot, now_s)
        else:  # it was about to be suspended
            self.preemption.had_answered(slot, now_s)

    def fill(self, now_s: float) -> None:
        """Hand out the runs of the backlog, and suspend others for urgent ones if there is no room."""
        if self.is_stranded:
            return
        if self.preemption.is_active:
            self.preemption.fill(self.backlog.runs, self.windows, now_s)
        if backlog := self.backlog.runs:
            workers = self.workers
            for slot, run in dealing.deal(backlog, self.slots, self.windows, now_s, workers.tasks_max):
                workers.send(slot, run, now_s)
            if backlog and self.preemption.is_on and self.preemption.room(now_s):
                self.preemption.fill(backlog, self.windows, now_s)

    def taken_back(self, index: int, tokens: Iterable[int], now_s: float) -> None:
        """These runs were read out of the worker's pipe before it read them."""
        slot = self.slots[index]
        slot.runs = deque(self.backlog.put_back_unread(slot, set(tokens), draining=self.draining))
        if slot.limits is not None and not slot.runs:
            self.workers.lift_limits(slot, slot.limits)
        self.workers.retire(slot, now_s)
        self.fill(now_s)

    def cancel(self, task_id: bytes, reason: str, now_s: float) -> None:
        """End the run of this task. A running one is interrupted first, and killed after a grace."""
        run = self.runs.get(task_id)
        if run is None or run.cancelled is not None:
            return
        run.cancelled = reason
        if run in self.backlog.runs:
            self.backlog.runs.remove(run)
            self.ending.cancelled(run)
            return
        slot = next(slot for slot in self.slots if run in slot.runs)
        if run is not slot.runs[0]:
            self.actions.append(TakeBack(slot.index))
        else:
            if slot.phase is Phase.SUSPENDED:
                self.preemption.let_end(slot, now_s)
            self.deadlines.interrupt_cancelled(slot, now_s)

    def exceeded(self, index: int, limits: Limits, cause: Cause, message: str) -> None:
        """A run has passed one of the limits that its worker is held to; `message` has the figures."""
        self.workers.exceeded(self.slots[index], limits, cause, message)

    def replace(self, index: int, now_s: float, *, at_once: bool = False) -> None:
        """Put a fresh worker into a slot: when this one has answered for its run, or at once, its run given back."""
        self.workers.replace(self.slots[index], now_s, at_once=at_once)

    def resize(self, size: int, now_s: float) -> None:
        """Have that many workers from now on. No run is ended: a worker that is one too many finishes its run first."""
        for slot in resizing.shrink(self.slots, size):
            self.workers.dismiss(slot, now_s)
        resizing.count_again(self.slots, size)
        for _ in range(size - resizing.size_of(self.slots)):
            self.preemption.add_worker(now_s)
        self.fill(now_s)

    # -- the end of the pool --------------------------------------------------------------------------------------

    def drain(self, now_s: float, grace_s: float) -> None:
        """Take nothing new, give back what has not started, let the rest finish within the grace."""
        self.draining = self.workers.draining = True
        self._grace_end_s = now_s + grace_s
        self.backlog.release()
        for slot in self.slots:
            if slot.phase is Phase.SUSPENDED:
                self.preemption.let_end(slot, now_s)
            if len(slot.runs) > 1:
                self.actions.append(TakeBack(slot.index))
            self.workers.retire(slot, now_s)

    def stop(self) -> None:
        """End all workers now; give the runs back."""
        self.draining = self.workers.draining = True
        self._grace_end_s = NEVER
        self.backlog.release()
        self.workers.kill_all()

    def fence(self) -> None:
        """The lease may be lapsing: end all runs before another supervisor may start them."""
        self.backlog.release()
        self.workers.kill_busy()

    # -- time -----------------------------------------------------------------------------------------------------

    def tick(self, now_s: float) -> None:
        """Do what is due by now."""
        if now_s < self.next_deadline_s():
            return
        if now_s >= self._grace_end_s:
            self.stop()
        for slot in self.slots:
            if now_s >= slot.deadline_s:
                self.workers.deadline_passed(slot, now_s)
        self.backlog.release_old(now_s)
        self.deadlines.alarm_s = min((slot.deadline_s for slot in self.slots), default=NEVER)
