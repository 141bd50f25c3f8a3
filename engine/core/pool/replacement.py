"""Replaces a worker before it is retired, so that a pool never has fewer workers than it should.

    the worker    UP ── serves on ──► UP, retiring ── has answered for its last run ──► QUITTING, its seat is spare
    its heir      (a spare seat) BOOTING ──► STANDBY ── takes the place at that moment ──► UP

1. Until it takes the place, an heir gets nothing to do: never more runs at a time than the pool has places.
2. A worker that is gone sooner than its heir has booted leaves the place to it all the same.
3. A worker without an heir (it died while it booted) goes all the same, and a fresh one is started when it does.
4. There are never more than two processes for a place: heirs have to wait for workers that are slow to go.
"""

from collections.abc import Callable

from engine.core.pool.slot import NEVER, Phase, Slot

_GOING = (Phase.UP, Phase.QUITTING, Phase.DYING)  # without a place


class Succession:
    """Works on the slots of a dispatcher; `spawn` starts a process in one."""

    def __init__(self, slots: list[Slot], spawn: Callable[[Slot, float], None]) -> None:
        self._slots, self._spawn = slots, spawn
        self._heirs: dict[int, int] = {}  # index of a worker's slot -> that of its heir's

    def prepare(self, slot: Slot, now_s: float) -> bool:
        """Start an heir for a worker that is to go, if it has none; whether it has one now."""
        if slot.index not in self._heirs and self._has_room():
            seat = self.free_seat()
            self._heirs[slot.index] = seat.index
            self._spawn(seat, now_s)
        return slot.index in self._heirs

    def is_coming(self, slot: Slot) -> bool:
        """Whether a worker has an heir that is not ready yet."""
        index = self._heirs.get(slot.index)
        return index is not None and self._slots[index].phase is Phase.BOOTING

    def take_place(self, slot: Slot) -> Slot | None:
        """Give the place of a worker that goes, or is gone, to its heir, which may still be booting; None: no heir."""
        index = self._heirs.pop(slot.index, None)
        if index is None:
            return None
        heir = self._slots[index]
        heir.spare, slot.spare = False, True
        if heir.phase is Phase.STANDBY:
            heir.phase = Phase.UP
        return heir

    def worker_of(self, heir: Slot) -> Slot | None:
        """Whose heir it is."""
        return next((self._slots[index] for index, its in self._heirs.items() if its == heir.index), None)

    def disinherit(self, heir: Slot) -> Slot | None:
        """An heir is gone before its time: the worker whose it was."""
        worker = self.worker_of(heir)
        if worker is not None:
            del self._heirs[worker.index]
        return worker

    def disown(self, worker: Slot) -> Slot | None:
        """A worker does without its heir: who that was, if it has one."""
        index = self._heirs.pop(worker.index, None)
        return None if index is None else self._slots[index]

    def _has_room(self) -> bool:
        heirs = set(self._heirs.values())
        spares = sum(slot.spare and (slot.phase in _GOING or slot.index in heirs) for slot in self._slots)
        return spares < sum(not slot.spare for slot in self._slots)

    def free_seat(self) -> Slot:
        """A seat that nobody has or wants; a new one if there is none."""
        for slot in self._slots:
            if slot.spare and slot.phase is Phase.DOWN and slot.deadline_s == NEVER:
                return slot
        self._slots.append(Slot(len(self._slots), spare=True))
        return self._slots[-1]
