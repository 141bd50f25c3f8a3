"""Which worker gets which run: the emptiest first, and short runs several ahead."""

from collections import deque
from collections.abc import Iterator
from functools import partial

from engine.core.pool.slot import Phase, Run, Slot
from engine.core.pool.window import PATIENCE_S, Windows


def is_open(slot: Slot, now_s: float) -> bool:
    """Whether a worker may be given more: it is up, is to stay, and is not stuck in a long run."""
    return slot.phase is Phase.UP and not slot.retiring and (not slot.runs or now_s - slot.since_s < PATIENCE_S)


def room(slots: list[Slot], window: int, now_s: float) -> tuple[int, int]:
    """Return how many runs the workers could take, and how many workers have none at all."""
    room, idle = 0, 0
    for slot in slots:
        if slot.phase is Phase.UP and not slot.retiring:
            load = len(slot.runs)
            if not load:
                room, idle = room + window, idle + 1
            elif load < window and now_s - slot.since_s < PATIENCE_S:
                room += window - load
    return room, idle


def deal(backlog: deque[Run], slots: list[Slot], windows: Windows, now_s: float,
         tasks_max: int = 0) -> Iterator[tuple[Slot, Run]]:
    """Take runs off the backlog, in its order, each with the slot to send it to; no worker gets more than `tasks_max`.

    The caller sends each run before it asks for the next one.
    """
    may_wait = partial(_is_left, tasks_max) if tasks_max else _may_wait
    takers = sorted((slot for slot in slots if is_open(slot, now_s)), key=_load)
    while backlog and takers:
        willing = []
        for slot in takers:
            if not backlog:
                return
            if not slot.runs or may_wait(backlog[0], slot, windows):
                yield slot, backlog.popleft()
                willing.append(slot)
        takers = willing


def _may_wait(run: Run, slot: Slot, windows: Windows) -> bool:
    """Whether a run may be sent behind others: all of them short, of one packet, and held to the same limits."""
    last, limits = slot.runs[-1], run.policy.limits
    window = min(windows.of(run.task_type), windows.of(last.task_type))
    return len(slot.runs) < window and not run.is_alone and not last.is_alone and (
        limits is slot.limits or limits == slot.limits)


def _is_left(tasks_max: int, run: Run, slot: Slot, windows: Windows) -> bool:
    return slot.served + len(slot.runs) < tasks_max and _may_wait(run, slot, windows)


def _load(slot: Slot) -> int:
    return len(slot.runs)
