"""Decides what a pool does with its workers and runs; does none of it.

Each method takes one thing that happened, with the time, and appends the
actions to carry out to `actions`; `next_deadline_s` says when to call
`tick` if nothing happens. No clock, process or Redis is reachable from here.
There is a method for each event rather than an object, because the two that
happen once for every task (`claimed`, `replied`) are the engine's hot path.

Duties
1. Keep a worker in each slot, started before the one that it replaces goes; pause and give up by the restart budget.
2. Hand claimed runs out, short ones several ahead, and take back what waits behind a long one.
3. Watch the deadlines of what is running: interrupt softly, then kill.
4. Judge each end once: the first decision wins, a later reply is dropped.
5. Charge each death: busy, to the task; booting or idle, to the restart budget; killed by us, to nobody.
6. Stop a handler that keeps costing workers for a while, and hold its runs back.
7. Have a run make way for an urgent one, and change the number of places, without hurting any run.
8. Drain: finish what runs, give back what does not.
"""

from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

from engine.core.pool import dealing, resizing
from engine.core.pool.actions import Action, Halt, Preempt, Send, Settle, Stopped, TakeBack
from engine.core.pool.breaker import Breaker
from engine.core.pool.deadlines import Deadlines, Timing
from engine.core.pool.ending import Ending
from engine.core.pool.preemption import Preemption, PreemptionLimits
from engine.core.pool.slot import NEVER, Phase, Run, Slot
from engine.core.pool.window import PATIENCE_S, Windows
from engine.core.pool.workers import INTERRUPTED, WorkerLifecycle
from engine.core.task.limits import Limits
from engine.core.task.outcome import Cause, Outcome
from engine.core.task.priority import TaskPriority
from engine.core.tree.restart import RestartBudget

BACKLOG_S_MAX = 0.1  # a claimed run that finds no worker for so long is given back, so that another pool may have it


class Room(NamedTuple):
    runs: int  # that could be handed out
    is_urgent: bool  # a worker has nothing, or all of them will soon
    idle_workers: int  # that could begin a run at once
    preempt: Preempt = Preempt.NEVER  # NOW: `runs` is for urgent runs only; WHEN_FULL: what comes after them is


class Dispatch:
    def __init__(self, slots: int, budget: RestartBudget, windows: Windows, timing: Timing,
                 chance: Callable[[], float], tasks_max: int = 0, breaker: Breaker | None = None,
                 preemption: PreemptionLimits | None = None, weigh: Callable[[int], int] = lambda index: 0) -> None:
        self.slots = [Slot(index) for index in range(slots)]
        self.windows = windows
        self.actions: list[Action] = []
        self.breaker = breaker or Breaker()
        self.ending = Ending(self.actions, chance)
        self.deadlines = Deadlines(self.actions, timing)
        self.workers = WorkerLifecycle(self.slots, self.actions, self.deadlines, budget, windows, tasks_max)
        self.preemption = Preemption(self.slots, self.actions, self.workers, preemption or PreemptionLimits(), weigh,
                                     self._send)
        self.runs = self.ending.runs  # every run that is ours to settle
        self.backlog: deque[Run] = deque()  # claimed, not yet sent
        self.ahead = 0  # how many to have in the backlog, besides what the workers have
        self.draining = False
        self.is_stranded = False  # the fork server is gone, and its workers with it, whether we have heard or not
        self._grace_end_s = NEVER  # when draining turns into stopping

    # -- what the pool asks ---------------------------------------------------------------------------------------

    def room(self, now_s: float) -> Room:
        """How many more runs could be handed out, and how much that is wanted."""
        self.preemption.ripe_s = NEVER  # what an earlier call said holds no more
        if self.draining or self.is_stranded:
            return Room(0, False, 0)
        room, idle = dealing.room(self.slots, self.windows.overall, now_s)
        if self.preemption.is_active:  # workers that are free soon are for suspended runs
            return self._urgent_room(room, now_s)
        ahead = self.ahead if self.windows.mean_s < PATIENCE_S else 0
        room, idle = max(0, room + ahead - len(self.backlog)), max(0, idle - len(self.backlog))
        if not self.preemption.is_on:
            return Room(room, (idle > 0 and room > 0) or room >= len(self.runs), idle)
        if not room:
            return self._urgent_room(0, now_s)
        return Room(room, idle > 0 or room >= len(self.runs), idle, Preempt.WHEN_FULL)

    def _urgent_room(self, room: int, now_s: float) -> Room:
        """`room`: how many urgent runs could begin without preemption."""
        if self.preemption.is_overdue(now_s):
            return Room(0, not self.runs, 0)
        waiting = sum(run.priority == TaskPriority.URGENT for run in self.backlog)
        room = max(0, room + self.preemption.room(now_s) - waiting)
        preempt = Preempt.NOW if room or self.preemption.is_possible() else Preempt.NEVER
        return Room(room, room > 0 or not self.runs, 0, preempt)

    def next_deadline_s(self) -> float:
        deadline_s = min(self.deadlines.alarm_s, self._grace_end_s)
        if self.backlog:
            return min(deadline_s, self.backlog[0].since_s + BACKLOG_S_MAX)
        return deadline_s

    @property
    def is_empty(self) -> bool:
        """Nothing to settle and no process left."""
        return not self.runs and all(slot.phase is Phase.DOWN for slot in self.slots)

    # -- the life of workers --------------------------------------------------------------------------------------

    def start(self, now_s: float) -> None:
        """The fork server is ready: put a worker in every slot that has none."""
        self.is_stranded = False
        self.workers.start(now_s)

    def booted(self, index: int, pid: int, now_s: float) -> None:
        slot = self.slots[index]
        if slot.phase is Phase.BOOTING:  # else it spoke as we were killing it
            self.workers.booted(slot, pid, now_s)
            if slot in self.preemption.standby():
                self.preemption.stand_by(slot, now_s)
            self.fill(now_s)

    def start_failed(self, index: int) -> None:
        """The user's own code refuses to let this worker start, or the host has none to give; `exited` follows."""
        self.slots[index].start_failed = True

    def exited(self, index: int, death: Callable[[Run], Outcome], unread: Iterable[int], now_s: float, *,
               stranded: bool = False) -> None:
        """A worker and everything below it is gone.

        `death` describes its death as the end of a run; `unread` are the tokens of runs it never read. `stranded`:
        it went down with the fork server, which is nobody's fault; `start` will be called when there is a new one.
        """
        slot = self.slots[index]
        self.is_stranded = self.is_stranded or stranded
        begun = self._empty(slot, {*unread, *self._withdraw(index)})
        for position, run in enumerate(begun):
            if slot.phase is Phase.DYING or stranded:
                # Only the first can have been running; a worker reads nothing before it has answered.
                self.ending.killed(run, slot.kill_cause if position == 0 else None, death(run), slot.limit_message)
            else:
                self.ending.died(run, death(run))
                self._count_death(run.task_type, now_s)
        is_own_fault = not begun and slot.phase not in (Phase.DYING, Phase.QUITTING)
        self.workers.exited(slot, now_s, is_own_fault=is_own_fault, stranded=stranded)
        if not self.draining:
            self.fill(now_s)

    # -- the life of runs -----------------------------------------------------------------------------------------

    def claimed(self, runs: Iterable[Run], now_s: float) -> None:
        for run in runs:
            run.since_s = now_s
            self.runs[run.task_id] = run
            self.backlog.append(run)
        if self.breaker.stops:
            self._hold_back(now_s)
        if self.draining:
            self._release_backlog()
        else:
            self.fill(now_s)

    def replied(self, index: int, token: int, word: bytes, wall_s: float, outcome: bytes, now_s: float,
                after_s: float | None = None) -> None:
        """The worker answered for its first run. `after_s` is the pause that a handler's Retry asked for.

        To be followed by one `fill` when a batch of replies has been taken in.
        """
        slot = self.slots[index]
        runs = slot.runs
        if not runs or runs[0].token != token or slot.phase is Phase.DYING:
            return  # too late: we already decided about this run
        run = runs.popleft()
        slot.served += 1
        slot.interrupted = False
        self.windows.observe(run.task_type, wall_s)
        self.ending.answered(run, word, outcome, after_s)
        if slot.limits is not None:
            self.workers.limited_run_ended(slot, slot.limits, wall_s)
        if slot.served >= slot.retire_at or word in INTERRUPTED:
            self.workers.near_retirement(slot, word, now_s)
        if runs:
            self.deadlines.begin(slot, now_s)
        elif slot.phase is Phase.UP:
            slot.deadline_s = NEVER
            self.workers.retire(slot, now_s)
        else:  # it was about to be suspended
            self.preemption.had_answered(slot, now_s)

    def fill(self, now_s: float) -> None:
        """Hand out what is waiting."""
        if self.is_stranded:
            return
        if self.preemption.is_active:
            self.preemption.fill(self.backlog, self.windows, now_s)
        if self.backlog:
            for slot, run in dealing.deal(self.backlog, self.slots, self.windows, now_s, self.workers.tasks_max):
                self._send(slot, run, now_s)
            if self.backlog and self.preemption.is_on and self.preemption.room(now_s):
                self.preemption.fill(self.backlog, self.windows, now_s)

    def taken_back(self, index: int, tokens: Iterable[int], now_s: float) -> None:
        """These runs were read out of the worker's pipe before it read them."""
        slot = self.slots[index]
        slot.runs = deque(self._empty(slot, tokens))
        if slot.limits is not None and not slot.runs:
            self.workers.lift_limits(slot, slot.limits)
        self.workers.retire(slot, now_s)
        self.fill(now_s)

    def cancel(self, task_id: bytes, reason: str, now_s: float) -> None:
        """Somebody wants this task ended. One that is running is told first, and killed after a grace."""
        run = self.runs.get(task_id)
        if run is None or run.cancelled is not None:
            return
        run.cancelled = reason
        if run in self.backlog:
            self.backlog.remove(run)
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
        slot = self.slots[index]
        if slot.limits is limits and slot.runs and slot.phase is not Phase.DYING:
            slot.limit_message = message
            self.deadlines.kill(slot, cause)

    def replace(self, index: int, now_s: float, *, at_once: bool = False) -> None:
        """Put a fresh worker into a slot: when this one has answered for its run, or at once, its run given back."""
        self.workers.replace(self.slots[index], now_s, at_once=at_once)

    def resize(self, size: int, now_s: float) -> None:
        """Have that many places from now on. No run is hurt: who is one too many finishes first."""
        for slot in resizing.shrink(self.slots, size):
            self.workers.dismiss(slot, now_s)
        resizing.count_again(self.slots, size)
        for _ in range(size - resizing.size_of(self.slots)):
            standby = self.preemption.standby()
            if standby:
                self.workers.promote(standby[0], now_s)
            else:
                self.workers.add(now_s)
        self.fill(now_s)

    # -- the end of the pool --------------------------------------------------------------------------------------

    def drain(self, now_s: float, grace_s: float) -> None:
        """Take nothing new, give back what has not started, let the rest finish within the grace."""
        self.draining = self.workers.draining = True
        self._grace_end_s = now_s + grace_s
        self._release_backlog()
        for slot in self.slots:
            if slot.phase is Phase.SUSPENDED:
                self.preemption.let_end(slot, now_s)
            if len(slot.runs) > 1:
                self.actions.append(TakeBack(slot.index))
            self.workers.retire(slot, now_s)

    def stop(self) -> None:
        """End everything now; what was running is given back."""
        self.draining = self.workers.draining = True
        self._grace_end_s = NEVER
        self._release_backlog()
        for slot in self.slots:
            if slot.phase is Phase.DOWN:
                slot.deadline_s = NEVER
            else:
                self.deadlines.kill(slot, None)

    def fence(self) -> None:
        """The lease may be lapsing: end all runs before anybody else may start them."""
        self._release_backlog()
        for slot in self.slots:
            if slot.runs:
                self.deadlines.kill(slot, None)

    # -- time -----------------------------------------------------------------------------------------------------

    def tick(self, now_s: float) -> None:
        if now_s < self.next_deadline_s():
            return
        if now_s >= self._grace_end_s:
            self.stop()
        for slot in self.slots:
            if now_s >= slot.deadline_s:
                self._expire(slot, now_s)
        while self.backlog and now_s >= self.backlog[0].since_s + BACKLOG_S_MAX:
            self.ending.released(self.backlog.popleft())
        self.deadlines.alarm_s = min((slot.deadline_s for slot in self.slots), default=NEVER)

    def _expire(self, slot: Slot, now_s: float) -> None:
        if slot.phase is Phase.DOWN:
            self.workers.spawn(slot, now_s)
        elif slot.runs:
            self.deadlines.overdue(slot, now_s)
        elif slot.phase is Phase.STANDBY:
            self.workers.dismiss(slot, now_s)
        elif slot.phase is Phase.BOOTING:
            self.workers.boot_timed_out(slot)
        else:
            self.deadlines.kill(slot, None)  # it does not exit

    # -- the small verbs ------------------------------------------------------------------------------------------

    def _send(self, slot: Slot, run: Run, now_s: float) -> None:
        slot.runs.append(run)
        if slot.limits is None and run.policy.limits is not None:
            self.workers.hold_to_limits(slot, run.policy.limits, now_s)
        self.actions.append(Send(slot.index, run))
        if len(slot.runs) == 1:
            self.deadlines.begin(slot, now_s)
        elif len(slot.runs) == 2:
            self.deadlines.set(slot, min(slot.deadline_s, slot.since_s + PATIENCE_S))

    def _withdraw(self, index: int) -> list[int]:
        """What was asked of a worker and not carried out before it died is void. Returns the tokens of runs unsent."""
        unsent = [action.run.token for action in self.actions if type(action) is Send and action.slot == index]
        self.actions[:] = [action for action in self.actions
                            if isinstance(action, Settle | Halt | Stopped) or action.slot != index]
        return unsent

    def _empty(self, slot: Slot, unread: Iterable[int]) -> list[Run]:
        """Put runs that were never started back where they can go on; return those that may have been."""
        fresh = set(unread)
        for run in reversed(slot.runs):
            if run.token not in fresh:
                continue
            if run.cancelled is not None:
                self.ending.cancelled(run)
            elif self.draining:
                self.ending.released(run)
            else:
                self.backlog.appendleft(run)
        return [run for run in slot.runs if run.token not in fresh]

    def _count_death(self, task_type: str, now_s: float) -> None:
        stop = self.breaker.died(task_type, now_s)
        if stop is not None:
            self.actions.append(Stopped(task_type, stop.pause_s, stop.deaths))
            self._hold_back(now_s)

    def _hold_back(self, now_s: float) -> None:
        """Give up for now what is of a handler that is stopped."""
        kept = []
        for run in self.backlog:
            stop = self.breaker.stop_of(run.task_type, now_s)
            if stop is None:
                kept.append(run)
            else:
                self.ending.held_back(run, stop.until_s - now_s, stop.deaths)
        self.backlog = deque(kept)

    def _release_backlog(self) -> None:
        while self.backlog:
            self.ending.released(self.backlog.popleft())
