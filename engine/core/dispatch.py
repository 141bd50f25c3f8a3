"""Decides what a pool does with its workers and runs; does none of it.

Each method takes one thing that happened, with the time, and appends the
commands to carry out to `commands`; `next_deadline_s` says when to call
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
7. Drain: finish what runs, give back what does not.
"""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from engine.core import dealing
from engine.core.breaker import Breaker
from engine.core.commands import (
    Command,
    Halt,
    Interrupt,
    Kill,
    Quit,
    Send,
    Settle,
    Spawn,
    Stopped,
    TakeBack,
    Unwatch,
    Watch,
)
from engine.core.ending import Ending
from engine.core.limits import Limits
from engine.core.outcome import Cause, Outcome
from engine.core.restart import RestartBudget
from engine.core.slot import NEVER, Phase, Run, Slot
from engine.core.succession import Succession
from engine.core.window import PATIENCE_S, Windows

INTERRUPTED = (b"S", b"I")  # words of a worker whose run was ended by an exception of ours
IDLE = (Phase.UP, Phase.STANDBY)
HEIR_AHEAD_S = 0.02  # an heir is started so long before it will be needed; it takes some milliseconds
_SHORTEST_S = 1e-6
_GIVES_UP = "workers die faster than the restart budget allows"
BACKLOG_S_MAX = 0.1  # a claimed run that finds no worker for so long is given back, so that another pool may have it


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds: to boot, from a soft interrupt for a cancel to the kill, and for a worker told to quit."""

    boot_s: float = 30.0
    cancel_grace_s: float = 2.0
    quit_s: float = 5.0


class Room(NamedTuple):
    runs: int  # that could be handed out
    is_urgent: bool  # a worker has nothing, or all of them will soon
    idle_workers: int  # that could begin a run at once


class Dispatch:
    def __init__(self, slots: int, budget: RestartBudget, windows: Windows, timing: Timing,
                 chance: Callable[[], float], tasks_max: int = 0, breaker: Breaker | None = None) -> None:
        self.slots = [Slot(index) for index in range(slots)]
        self.budget, self.windows, self.timing = budget, windows, timing
        self.tasks_max = tasks_max  # runs after which a worker is replaced; 0 is never
        self.commands: list[Command] = []
        self.breaker = breaker or Breaker()
        self.ending = Ending(self.commands, chance)
        self.succession = Succession(self.slots, self._spawn)
        self.runs = self.ending.runs  # every run that is ours to settle
        self.backlog: deque[Run] = deque()  # claimed, not yet sent
        self.draining = False
        self.is_stranded = False  # the fork server is gone, and its workers with it, whether we have heard or not
        self._alarm_s = NEVER  # no deadline of any slot is earlier
        self._grace_end_s = NEVER  # when draining turns into stopping

    # -- what the pool asks ---------------------------------------------------------------------------------------

    def room(self, now_s: float) -> Room:
        """How many more runs could be handed out, and how much that is wanted."""
        if self.draining or self.is_stranded:
            return Room(0, False, 0)
        room, idle = dealing.room(self.slots, self.windows.overall, now_s)
        room, idle = max(0, room - len(self.backlog)), max(0, idle - len(self.backlog))
        return Room(room, (idle > 0 and room > 0) or room >= len(self.runs), idle)

    def next_deadline_s(self) -> float:
        deadline_s = min(self._alarm_s, self._grace_end_s)
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
        for slot in self.slots:
            if slot.phase is Phase.DOWN and not slot.spare and not self.draining:
                self._spawn(slot, now_s)

    def booted(self, index: int, pid: int, now_s: float) -> None:
        slot = self.slots[index]
        if slot.phase is Phase.BOOTING:  # else it spoke as we were killing it
            slot.phase, slot.deadline_s, slot.pid = Phase.STANDBY if slot.spare else Phase.UP, NEVER, pid
            worker = self.succession.worker_of(slot) if slot.spare else None
            if worker is None:
                self._plan_end(slot, now_s)
            elif worker.leaving:
                self._leave(worker, now_s)
            self.fill(now_s)

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
                self.ending.killed(run, slot.doom if position == 0 else None, death(run), slot.breach)
            else:
                self.ending.died(run, death(run))
                self._count_death(run.task_type, now_s)
        worker = self.succession.disinherit(slot)
        heir = self.succession.take_place(slot)
        self.slots[index] = successor = Slot(index, restarts=slot.restarts + 1, spare=slot.spare)
        if self.draining or stranded:
            return
        is_own_fault = not begun and slot.phase not in (Phase.DYING, Phase.QUITTING)
        if heir is not None:
            self._plan_end(heir, now_s)
        if successor.spare:
            self._lost_spare(worker, is_own_fault, now_s)
        elif is_own_fault:
            self._spawn_later(successor, now_s)
        else:
            self._spawn(successor, now_s)
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
        if run.is_alone and run.policy.limits is not None:
            self._ends_limited(slot, run.policy.limits)
        if slot.served >= slot.notice or word in INTERRUPTED:
            self._near_end(slot, word, now_s)
        if runs:
            self._begin(slot, now_s)
        elif slot.phase is Phase.UP:
            slot.deadline_s = NEVER
            self._retire(slot, now_s)

    def fill(self, now_s: float) -> None:
        """Hand out what is waiting."""
        if self.backlog and not self.is_stranded:
            for slot, run in dealing.deal(self.backlog, self.slots, self.windows, now_s, self.tasks_max):
                self._send(slot, run, now_s)

    def taken_back(self, index: int, tokens: Iterable[int], now_s: float) -> None:
        """These runs were read out of the worker's pipe before it read them."""
        slot = self.slots[index]
        slot.runs = deque(self._empty(slot, tokens))
        self._retire(slot, now_s)
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
            self.commands.append(TakeBack(slot.index))
        else:
            self._interrupt_cancelled(slot, now_s)

    def exceeded(self, index: int, token: int, cause: Cause, message: str) -> None:
        """The run `token` has passed one of its limits; `message` has the figures."""
        slot = self.slots[index]
        if slot.runs and slot.runs[0].token == token and slot.phase is not Phase.DYING:
            slot.breach = message
            self._kill(slot, cause)

    def replace(self, index: int, now_s: float, *, at_once: bool = False) -> None:
        """Put a fresh worker into a slot: when this one has answered for its run, or at once, its run given back."""
        slot = self.slots[index]
        if slot.phase is not Phase.UP:
            return  # there is a fresh one under way
        if at_once:
            self._kill(slot, None)
        elif not slot.leaving and not self.draining:
            slot.leaving = True
            self.succession.prepare(slot, now_s)
            if not self.succession.is_coming(slot):
                self._leave(slot, now_s)

    # -- the end of the pool --------------------------------------------------------------------------------------

    def drain(self, now_s: float, grace_s: float) -> None:
        """Take nothing new, give back what has not started, let the rest finish within the grace."""
        self.draining, self._grace_end_s = True, now_s + grace_s
        self._release_backlog()
        for slot in self.slots:
            if len(slot.runs) > 1:
                self.commands.append(TakeBack(slot.index))
            self._retire(slot, now_s)

    def stop(self) -> None:
        """End everything now; what was running is given back."""
        self.draining, self._grace_end_s = True, NEVER
        self._release_backlog()
        for slot in self.slots:
            if slot.phase is Phase.DOWN:
                slot.deadline_s = NEVER
            else:
                self._kill(slot, None)

    def fence(self) -> None:
        """The lease may be lapsing: end all runs before anybody else may start them."""
        self._release_backlog()
        for slot in self.slots:
            if slot.runs:
                self._kill(slot, None)

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
        self._alarm_s = min((slot.deadline_s for slot in self.slots), default=NEVER)

    def _expire(self, slot: Slot, now_s: float) -> None:
        if slot.phase is Phase.DOWN:
            self._spawn(slot, now_s)
        elif slot.runs:
            self._overdue(slot, now_s)
        else:
            self._kill(slot, None)  # it does not boot, or does not go

    def _overdue(self, slot: Slot, now_s: float) -> None:
        run = slot.runs[0]
        age_s, policy = now_s - slot.since_s, run.policy
        if policy.timeout_s and age_s >= policy.timeout_s:
            self._kill(slot, Cause.TIMEOUT)
            return
        if run.cancelled is not None:
            if slot.interrupted and now_s >= slot.deadline_s:
                self._kill(slot, Cause.CANCELLED)
            else:
                self._interrupt_cancelled(slot, now_s)
            return
        if policy.soft_timeout_s and age_s >= policy.soft_timeout_s and not slot.interrupted:
            slot.interrupted = True
            self.commands.append(Interrupt(slot.index, run.token, cancel=False))
        if len(slot.runs) > 1 and age_s >= PATIENCE_S:
            self.commands.append(TakeBack(slot.index))
        slot.deadline_s = self._next_look_s(slot, now_s)

    # -- the small verbs ------------------------------------------------------------------------------------------

    def _send(self, slot: Slot, run: Run, now_s: float) -> None:
        slot.runs.append(run)
        if run.is_alone and run.policy.limits is not None:
            self._begin_limited(slot, run.token, run.policy.limits, now_s)
        self.commands.append(Send(slot.index, run))
        if len(slot.runs) == 1:
            self._begin(slot, now_s)
        elif len(slot.runs) == 2:
            self._set_deadline(slot, min(slot.deadline_s, slot.since_s + PATIENCE_S))

    def _begin(self, slot: Slot, now_s: float) -> None:
        """The first run of the slot starts now."""
        slot.since_s = now_s
        if slot.runs[0].cancelled is not None:  # asked for while it waited, and it could not be taken back
            self._interrupt_cancelled(slot, now_s)
        else:
            self._set_deadline(slot, self._next_look_s(slot, now_s))

    def _next_look_s(self, slot: Slot, now_s: float) -> float:
        policy = slot.runs[0].policy
        look_s = slot.since_s + policy.timeout_s if policy.timeout_s else NEVER
        if policy.soft_timeout_s and not slot.interrupted:
            look_s = min(look_s, slot.since_s + policy.soft_timeout_s)
        if len(slot.runs) > 1 and now_s < slot.since_s + PATIENCE_S:
            look_s = min(look_s, slot.since_s + PATIENCE_S)
        return look_s

    def _interrupt_cancelled(self, slot: Slot, now_s: float) -> None:
        if slot.phase is Phase.DYING:
            return
        slot.interrupted = True
        self.commands.append(Interrupt(slot.index, slot.runs[0].token, cancel=True))
        timeout_s = slot.runs[0].policy.timeout_s
        end_s = slot.since_s + timeout_s if timeout_s else NEVER
        self._set_deadline(slot, min(end_s, now_s + self.timing.cancel_grace_s))

    def _set_deadline(self, slot: Slot, deadline_s: float) -> None:
        slot.deadline_s = deadline_s
        if deadline_s < self._alarm_s:
            self._alarm_s = deadline_s

    def _spawn(self, slot: Slot, now_s: float) -> None:
        assert slot.phase is Phase.DOWN, "one process per slot"
        slot.phase, slot.started_s = Phase.BOOTING, now_s
        self._set_deadline(slot, now_s + self.timing.boot_s)
        self.commands.append(Spawn(slot.index))

    def _spawn_later(self, slot: Slot, now_s: float) -> None:
        if self.budget.spend(now_s):
            self._set_deadline(slot, now_s + self.budget.next_pause_s())
        else:
            self.commands.append(Halt(_GIVES_UP))

    def _kill(self, slot: Slot, doom: Cause | None) -> None:
        if slot.phase is not Phase.DYING:
            slot.doom = doom
            slot.phase, slot.deadline_s = Phase.DYING, NEVER
            self.commands.append(Kill(slot.index))

    def _plan_end(self, slot: Slot, now_s: float) -> None:
        """A worker has its place now: see that its heir is there when it has served its number of runs."""
        if self.tasks_max:
            ahead = min(self.tasks_max, 1 + int(HEIR_AHEAD_S / max(self.windows.mean_s, _SHORTEST_S)))
            slot.notice = self.tasks_max - ahead
            if not slot.notice:
                self._near_end(slot, b"", now_s)

    def _near_end(self, slot: Slot, word: bytes, now_s: float) -> None:
        if word in INTERRUPTED or slot.served >= self.tasks_max:
            self._replace_soon(slot)
        elif not self.draining and self.succession.prepare(slot, now_s):
            slot.notice = self.tasks_max

    def _replace_soon(self, slot: Slot) -> None:
        """A worker that has served its time, or was interrupted in the middle of who knows what."""
        if not slot.retiring:
            slot.retiring = True
            if slot.runs:
                self.commands.append(TakeBack(slot.index))

    def _leave(self, slot: Slot, now_s: float) -> None:
        self._replace_soon(slot)
        self._retire(slot, now_s)

    def _lost_spare(self, worker: Slot | None, is_own_fault: bool, now_s: float) -> None:
        """A process without a place is gone. If it was the heir of `worker`, that must do without."""
        if is_own_fault and not self.budget.spend(now_s):
            self.commands.append(Halt(_GIVES_UP))
        elif worker is not None and worker.leaving:
            self._leave(worker, now_s)
        for one in self.slots:  # there is room for the heir of another now
            if one.served >= one.notice and one.phase is Phase.UP:
                self._near_end(one, b"", now_s)

    def _begin_limited(self, slot: Slot, token: int, limits: Limits, now_s: float) -> None:
        self.commands.append(Watch(slot.index, token, limits))
        if limits.nice:
            self.succession.prepare(slot, now_s)

    def _ends_limited(self, slot: Slot, limits: Limits) -> None:
        self.commands.append(Unwatch(slot.index))
        if limits.nice:  # who is not privileged can't take it back
            self._replace_soon(slot)

    def _retire(self, slot: Slot, now_s: float) -> None:
        """Let a worker go that has nothing to do and should not go on."""
        if self.draining and slot.phase is Phase.DOWN:
            slot.deadline_s = NEVER
        elif self.draining and slot.phase is Phase.BOOTING:
            self._kill(slot, None)
        elif slot.phase in IDLE and not slot.runs and (self.draining or slot.retiring):
            if not self.draining:
                self.succession.prepare(slot, now_s)
                heir = self.succession.take_place(slot)
                if heir is not None and heir.phase is Phase.UP:
                    self._plan_end(heir, now_s)
            slot.phase = Phase.QUITTING
            self._set_deadline(slot, now_s + self.timing.quit_s)
            self.commands.append(Quit(slot.index))

    def _withdraw(self, index: int) -> list[int]:
        """What was asked of a worker and not carried out before it died is void. Returns the tokens of runs unsent."""
        unsent = [command.run.token for command in self.commands if type(command) is Send and command.slot == index]
        self.commands[:] = [command for command in self.commands
                            if isinstance(command, Settle | Halt | Stopped) or command.slot != index]
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
            self.commands.append(Stopped(task_type, stop.pause_s, stop.deaths))
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
