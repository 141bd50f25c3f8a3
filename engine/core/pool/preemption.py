"""Decides which run stands still so that an urgent one can start at once, and when it goes on.

A pool executes as many runs at a time as it has places. When all are taken and an URGENT task waits, the run of the
lowest priority is frozen, and another worker takes its place: one of the reserve, or the first time a fresh one. The
frozen run goes on as soon as a place has nothing to do; who had that place stands by from then on.

    the run       UP ── freeze ──► FROZEN, its seat is spare ── thaw ──► UP, in a place again
    the reserve   (a spare seat) STANDBY ── takes the place ──► UP ── gives the place back ──► STANDBY

1. Never more runs go on at a time than there are places; but one that is to end may, beside them, until it has.
2. URGENT runs alone make others stand still: any of a lower priority whose handler is preemptible, the lowest first.
3. Nobody makes way for a place that is about to be free: while a worker boots or ends, or is in a run only just begun.
4. Frozen runs are bounded in number, in memory, and each in the time for which it stands still.
5. What stands still does not age: its deadlines move by as long as it stood.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from engine.core.pool import dealing
from engine.core.pool.commands import Command, Freeze, Thaw
from engine.core.pool.slot import NEVER, Phase, Run, Slot
from engine.core.pool.window import PATIENCE_S, Windows
from engine.core.pool.workers import Crew
from engine.core.task.priority import TaskPriority

REFUSED_PAUSE_S = 1.0  # after those who could make way have been found too large
RESERVE_S = 60.0  # a worker that stands by and is not wanted for so long is let go
_URGENT = int(TaskPriority.URGENT)
_BEFORE_A_RUN = (Phase.DOWN, Phase.BOOTING)
_PASSING = (Phase.DOWN, Phase.BOOTING, Phase.QUITTING, Phase.DYING)


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many runs may stand still at a time (0: none, ever), how much memory they may have together, and how long
    each of them may stand still in all. 0 bytes, 0 seconds: without such a bound."""

    frozen_max: int = 0
    frozen_bytes_max: int = 0
    frozen_s_max: float = 0.0


class Preemption:
    """Works on the slots of a dispatcher.

    `weigh` tells the memory in bytes of the worker in a slot and everything below it. `send` gives a run to a worker.
    """

    def __init__(self, slots: list[Slot], commands: list[Command], crew: Crew, bounds: Bounds,
                 weigh: Callable[[int], int], send: Callable[[Slot, Run, float], None]) -> None:
        self.slots, self.commands, self.crew, self.bounds = slots, commands, crew, bounds
        self.is_on = bounds.frozen_max > 0
        self.is_active = False  # somebody stands still
        self.ripe_s = NEVER  # when somebody could make way, if nothing happens until then
        self.frozen_count = 0  # ever
        self._weigh, self._send = weigh, send
        self._refused_until_s = 0.0

    def frozen(self) -> list[Slot]:
        return [slot for slot in self.slots if slot.phase is Phase.FROZEN]

    # -- room -----------------------------------------------------------------------------------------------------

    def room(self, now_s: float) -> int:
        """For how many urgent runs somebody could make way now."""
        ripe_s = self._ripe_s()
        if ripe_s <= now_s:
            self.ripe_s = NEVER
            return max(0, min(self.bounds.frozen_max - len(self.frozen()), len(self._able())))
        self.ripe_s = ripe_s
        return 0

    def is_possible(self) -> bool:
        """Whether somebody could make way, now or in a moment."""
        return any(map(self._may_freeze, self.slots)) and len(self.frozen()) < self.bounds.frozen_max

    def is_overdue(self, now_s: float) -> bool:
        """Whether a run has stood still for as long as it may."""
        return any(self._has_stood_long(slot, now_s) for slot in self.frozen())

    def _ripe_s(self) -> float:
        """The moment from which on no place is about to be free; NEVER if something has to happen first."""
        ripe_s = self._refused_until_s
        for slot in self.slots:
            if slot.spare:
                continue
            if not slot.runs or slot.phase in _PASSING:
                return NEVER
            ripe_s = max(ripe_s, slot.since_s + PATIENCE_S)
        return ripe_s

    def _able(self) -> list[Slot]:
        """Who could make way, the first choice first."""
        return sorted(filter(self._may_freeze, self.slots), key=_reluctance)

    def _may_freeze(self, slot: Slot) -> bool:
        if slot.phase is not Phase.UP or slot.spare or slot.leaving or slot.interrupted or len(slot.runs) != 1:
            return False
        run, frozen_s_max = slot.runs[0], self.bounds.frozen_s_max
        return run.priority < _URGENT and run.policy.preemptible and run.cancelled is None and (
            not frozen_s_max or run.frozen_s < frozen_s_max)

    # -- who goes first -------------------------------------------------------------------------------------------

    def fill(self, backlog: deque[Run], windows: Windows, now_s: float) -> None:
        """Hand out what is urgent, in places made for it where there is none; then let go on who can."""
        if self.is_active:
            self._give_back(now_s, 0, only_overdue=True)
        urgent = deque(run for run in backlog if run.priority == _URGENT)
        self._deal(urgent, backlog, windows, now_s)
        while urgent and self._make_way(now_s):
            self._deal(urgent, backlog, windows, now_s)
        if self.is_active:
            self._give_back(now_s, len(urgent))

    def _deal(self, urgent: deque[Run], backlog: deque[Run], windows: Windows, now_s: float) -> None:
        for slot, run in dealing.deal(urgent, self.slots, windows, now_s, self.crew.tasks_max):
            backlog.remove(run)
            self._send(slot, run, now_s)

    # -- making way -----------------------------------------------------------------------------------------------

    def _make_way(self, now_s: float) -> bool:
        """Have a run stand still, and put another worker in its place."""
        if not self.room(now_s):
            return False
        left = self.bounds.frozen_bytes_max - sum(slot.frozen_bytes for slot in self.frozen())
        for victim in self._able():
            victim.frozen_bytes = self._weigh(victim.index) if self.bounds.frozen_bytes_max else 0
            if victim.frozen_bytes <= left or not self.bounds.frozen_bytes_max:
                self._freeze(victim, now_s)
                return True
        self._refused_until_s = now_s + REFUSED_PAUSE_S
        return False

    def _freeze(self, victim: Slot, now_s: float) -> None:
        heir = self.crew.succession.disown(victim)
        victim.phase, victim.spare, victim.frozen_at_s, victim.deadline_s = Phase.FROZEN, True, now_s, NEVER
        self.commands.append(Freeze(victim.index, victim.runs[0]))
        self.is_active = True
        self.frozen_count += 1
        ready = self.reserve()
        if not ready:
            self.crew.open_place(now_s)
        else:
            self.crew.give_place(heir if heir in ready else ready[0], now_s)

    # -- going on -------------------------------------------------------------------------------------------------

    def _give_back(self, now_s: float, wanted: int, *, only_overdue: bool = False) -> None:
        """Let frozen runs go on in places that have nothing to do; `wanted` urgent runs have theirs coming."""
        frozen = sorted(self.frozen(), key=_claim)
        if only_overdue:
            frozen = [slot for slot in frozen if self._has_stood_long(slot, now_s)]
        for slot in self.slots[:] if frozen else []:
            if slot.spare or slot.runs or slot.retiring or not frozen:
                continue
            if slot.phase in _BEFORE_A_RUN and wanted > 0:
                wanted -= 1
            elif slot.phase is Phase.UP or slot.phase in _BEFORE_A_RUN:
                self._stand_down(slot, now_s)
                self._thaw(frozen.pop(0), now_s, spare=False)
        self.is_active = bool(self.frozen())

    def _stand_down(self, slot: Slot, now_s: float) -> None:
        """Give up the place of a worker, which may be booting or not even there yet."""
        heir = self.crew.succession.disown(slot)
        if heir is not None:
            self.crew.dismiss(heir, now_s)
        slot.spare = True
        if slot.phase is Phase.UP:
            slot.phase = Phase.STANDBY
            self.stand_by(slot, now_s)
        elif slot.phase is Phase.DOWN:
            slot.deadline_s = NEVER

    def _thaw(self, slot: Slot, now_s: float, *, spare: bool) -> None:
        run = slot.runs[0]
        frozen_s = slot.stood_s(now_s) - run.frozen_s
        slot.phase, slot.spare, slot.frozen_at_s, slot.frozen_bytes = Phase.UP, spare, None, 0
        slot.since_s += frozen_s
        run.frozen_s += frozen_s
        self.commands.append(Thaw(slot.index, run, frozen_s))
        self.crew.deadlines.set(slot, self.crew.deadlines.next_look_s(slot, now_s))

    def let_end(self, slot: Slot, now_s: float) -> None:
        """Let a frozen run go on beside the others, since it is to end."""
        slot.retiring = True
        self._thaw(slot, now_s, spare=True)

    def was_over(self, slot: Slot, now_s: float) -> None:
        """A run had answered before it stood still: its worker stands by."""
        slot.phase, slot.frozen_at_s, slot.frozen_bytes = Phase.STANDBY, None, 0
        self.commands.append(Thaw(slot.index, None, 0.0))
        self.stand_by(slot, now_s)
        self.crew.retire(slot, now_s)

    def _has_stood_long(self, slot: Slot, now_s: float) -> bool:
        bound_s = self.bounds.frozen_s_max
        return bound_s > 0 and slot.stood_s(now_s) >= bound_s

    # -- the reserve ----------------------------------------------------------------------------------------------

    def reserve(self) -> list[Slot]:
        """Workers that stand by for nobody in particular."""
        return [slot for slot in self.slots if slot.spare and slot.phase is Phase.STANDBY and not slot.retiring and
                self.crew.succession.worker_of(slot) is None]

    def stand_by(self, slot: Slot, now_s: float) -> None:
        """A worker without a place is ready. One such is enough."""
        if len(self.reserve()) > 1:
            self.crew.dismiss(slot, now_s)
        else:
            self.crew.deadlines.set(slot, now_s + RESERVE_S)


def _reluctance(slot: Slot) -> tuple[int, float, float]:
    """Who makes way first: the lowest priority, then who stood still the least so far, then who began last."""
    run = slot.runs[0]
    return run.priority, run.frozen_s, -slot.since_s


def _claim(slot: Slot) -> tuple[int, float]:
    """Who goes on first: the highest priority, then who has stood still the longest."""
    assert slot.frozen_at_s is not None, "it stands still"
    return -slot.runs[0].priority, slot.frozen_at_s
