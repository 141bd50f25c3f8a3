"""The size of a pool: which workers go or stay when it changes, and when it should change by itself.

No run is ended for it. A worker that is one too many finishes its run and exits then.

The automatic mode looks at a pool once a second. It adds workers while tasks wait, no worker is idle and the host has
CPU time to spare. It removes one when a worker has been idle for long. Bounds and pauses between the two keep the size
from swinging: a load that just fits changes nothing.
"""

from dataclasses import dataclass

from engine.core.pool.slot import Phase, Slot

WAIT_S = 1.0  # tasks that wait for less are no reason for another worker
CPU_SHARE_MAX = 0.85  # of the host's CPU time: beyond it another worker would only take from the others
IDLE_S = 30.0  # a worker that was not needed for so long is removed
GROWTH_SHARE = 0.25  # of the size, at a time
REST_S = 3.0  # after a change, for its effect to show


@dataclass(frozen=True, slots=True)
class Scale:
    """The smallest and the largest size that a pool may be given or may choose by itself."""

    least: int
    most: int

    def __post_init__(self) -> None:
        assert 1 <= self.least <= self.most, "a pool has at least one worker"

    def bounded(self, size: int) -> int:
        return min(max(size, self.least), self.most)


@dataclass(frozen=True, slots=True)
class Load:
    """What a pool looks like at one moment.

    `idle`: workers that have nothing to do. `wait_s`: age in seconds of the oldest task that it could run, 0 for none.
    `cpu_share`: the part of the host's CPU time that is used, 0 to 1.
    """

    size: int
    idle: int
    wait_s: float
    cpu_share: float


class AutoSize:
    """Remembers since when a worker has been idle, and when the size has changed last."""

    def __init__(self, scale: Scale) -> None:
        self.scale = scale
        self._idle_since_s: float | None = None
        self._rest_until_s = 0.0

    def size(self, load: Load, now_s: float) -> int:
        """The size that the pool should have from now on."""
        if not load.idle:
            self._idle_since_s = None
        elif self._idle_since_s is None:
            self._idle_since_s = now_s
        wanted = self.scale.bounded(self._wanted(load, now_s))
        if wanted != load.size:
            self._rest_until_s, self._idle_since_s = now_s + REST_S, None
        return wanted

    def _wanted(self, load: Load, now_s: float) -> int:
        if now_s < self._rest_until_s:
            return load.size
        if load.wait_s >= WAIT_S and not load.idle and load.cpu_share < CPU_SHARE_MAX:
            return load.size + max(1, int(load.size * GROWTH_SHARE))
        if self._idle_since_s is not None and now_s >= self._idle_since_s + IDLE_S:
            return load.size - 1
        return load.size


def size_of(slots: list[Slot]) -> int:
    """How many workers count."""
    return sum(slot.counts_toward_size for slot in slots)


def shrink(slots: list[Slot], size: int) -> list[Slot]:
    """No longer count workers beyond `size`, idle ones first. Returns their slots."""
    counted = sorted((slot for slot in slots if slot.counts_toward_size), key=_removal_order)
    leaving = counted[: max(0, len(counted) - size)]
    for slot in leaving:
        slot.counts_toward_size = False
    return leaving


def count_again(slots: list[Slot], size: int) -> None:
    """Count workers again that were to exit after their run, up to `size`; each is replaced after that all the same."""
    for slot in slots:
        if size_of(slots) < size and _could_count(slot) and slot.runs[0].cancelled is None:
            slot.counts_toward_size = True


def _could_count(slot: Slot) -> bool:
    return not slot.counts_toward_size and slot.phase is Phase.UP


_ORDER = {Phase.DOWN: 0, Phase.QUITTING: 1, Phase.DYING: 1, Phase.BOOTING: 2}


def _removal_order(slot: Slot) -> tuple[int, int, int]:
    """Workers that are not up first, then idle ones, then the newest slots."""
    return _ORDER.get(slot.phase, 3), len(slot.runs), -slot.index
