"""What a pool asks for with its next step: how many runs, and whether it would suspend others for urgent ones."""

from collections.abc import Collection
from typing import NamedTuple

from engine.core.pool import dealing
from engine.core.pool.actions import Preempt
from engine.core.pool.preemption import Preemption
from engine.core.pool.slot import NEVER, Run, Slot
from engine.core.pool.window import PATIENCE_S, Windows
from engine.core.task.priority import TaskPriority


class Room(NamedTuple):
    """What a pool could take.

    `runs`: how many more could be handed out. `is_urgent`: a worker has nothing to do, or all of them will soon.
    `idle_workers`: how many could begin a run at once. `preempt`: with `NOW`, `runs` is for urgent runs only.
    """

    runs: int
    is_urgent: bool
    idle_workers: int
    preempt: Preempt = Preempt.NEVER


NO_ROOM = Room(0, False, 0)


def room_of(slots: list[Slot], windows: Windows, preemption: Preemption, backlog: Collection[Run], runs: int,
            ahead: int, now_s: float) -> Room:
    """Return the room of a pool that has `runs` runs in all.

    `backlog`: runs that are claimed and not sent yet. `ahead`: how many to have there, besides what the workers have.
    """
    preemption.ripe_s = NEVER  # an earlier answer holds no more
    room, idle = dealing.room(slots, windows.overall, now_s)
    if preemption.is_active:  # workers that are free soon are for suspended runs
        return _urgent_room(preemption, backlog, runs, room, now_s)
    ahead = ahead if windows.mean_s < PATIENCE_S else 0
    room, idle = max(0, room + ahead - len(backlog)), max(0, idle - len(backlog))
    if not preemption.is_on:
        return Room(room, (idle > 0 and room > 0) or room >= runs, idle)
    if not room:
        return _urgent_room(preemption, backlog, runs, 0, now_s)
    return Room(room, idle > 0 or room >= runs, idle, Preempt.WHEN_FULL)


def _urgent_room(preemption: Preemption, backlog: Collection[Run], runs: int, room: int, now_s: float) -> Room:
    """`room`: how many urgent runs could begin without preemption."""
    if preemption.is_overdue(now_s):
        return Room(0, not runs, 0)
    waiting = sum(run.priority == TaskPriority.URGENT for run in backlog)
    room = max(0, room + preemption.room(now_s) - waiting)
    preempt = Preempt.NOW if room or preemption.is_possible() else Preempt.NEVER
    return Room(room, room > 0 or not runs, 0, preempt)
