"""Starts the replacement of a worker before that worker is retired, so that a pool never has too few workers.

    the worker         UP ── serves on ──► UP, retiring ── has answered for its last run ──► QUITTING, no longer counted
    its replacement    (a free slot) BOOTING ──► STANDBY ── takes over at that moment ──► UP, counted

1. A replacement gets no run before it takes over: never more runs at a time than the pool's size.
2. If a worker is gone before its replacement has booted, the replacement takes over all the same.
3. A worker without a replacement (it died while it booted) is retired all the same; a fresh one is started then.
4. There are never more than two processes for each worker that counts: replacements wait for workers that exit slowly.
"""

from collections.abc import Callable

from engine.core.pool.slot import NEVER, Phase, Slot

_STILL_THERE = (Phase.UP, Phase.QUITTING, Phase.DYING)


class Replacements:
    """Which worker is replaced by which.

    `slots` are those of the dispatcher; `spawn` starts a process in a slot at a moment in seconds.
    """

    def __init__(self, slots: list[Slot], spawn: Callable[[Slot, float], None]) -> None:
        self._slots, self._spawn = slots, spawn
        self._index_of: dict[int, int] = {}  # index of a worker's slot -> that of its replacement's

    def prepare(self, slot: Slot, now_s: float) -> bool:
        """Start a replacement for a worker, if it has none and there is room. Returns whether it has one now."""
        if slot.index not in self._index_of and self._has_room():
            free = self.free_slot()
            self._index_of[slot.index] = free.index
            self._spawn(free, now_s)
        return slot.index in self._index_of

    def is_booting(self, worker: Slot) -> bool:
        """Whether a worker has a replacement that is not ready yet."""
        index = self._index_of.get(worker.index)
        return index is not None and self._slots[index].phase is Phase.BOOTING

    def take_over(self, worker: Slot) -> Slot | None:
        """Count a worker's replacement, which may still be booting, instead of the worker.

        Returns the replacement, or None if there is none: the worker counts on then.
        """
        index = self._index_of.pop(worker.index, None)
        if index is None:
            return None
        replacement = self._slots[index]
        replacement.counts_toward_size, worker.counts_toward_size = True, False
        if replacement.phase is Phase.STANDBY:
            replacement.phase = Phase.UP
        return replacement

    def worker_of(self, replacement: Slot) -> Slot | None:
        """The worker that it is to replace, if it is a replacement."""
        return next((self._slots[index] for index, its in self._index_of.items() if its == replacement.index), None)

    def lost(self, replacement: Slot) -> Slot | None:
        """A process is gone. If it was a replacement, forget it and return the worker that it was to replace."""
        worker = self.worker_of(replacement)
        if worker is not None:
            del self._index_of[worker.index]
        return worker

    def detach(self, worker: Slot) -> Slot | None:
        """Have a worker do without its replacement. Returns that replacement, if there was one."""
        index = self._index_of.pop(worker.index, None)
        return None if index is None else self._slots[index]

    def _has_room(self) -> bool:
        replacements = set(self._index_of.values())
        extra = sum(not slot.counts_toward_size and (slot.phase in _STILL_THERE or slot.index in replacements)
                    for slot in self._slots)
        return extra < sum(slot.counts_toward_size for slot in self._slots)

    def free_slot(self) -> Slot:
        """A slot that is empty and to stay so; a new one if there is none. It does not count toward the size yet."""
        for slot in self._slots:
            if not slot.counts_toward_size and slot.phase is Phase.DOWN and slot.deadline_s == NEVER:
                return slot
        self._slots.append(Slot(len(self._slots), counts_toward_size=False))
        return self._slots[-1]
