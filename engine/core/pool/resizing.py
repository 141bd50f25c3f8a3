"""How many places a pool has: which it gives up or takes on when that changes, and when it should change by itself.

No run is ended for it. A worker that is one too many finishes what it runs and goes then.

The automatic mode looks at a pool once a second. It takes workers on while tasks wait although nobody is idle and the
host has processor time to spare, and lets one go when somebody has been idle for long. Between the two lie bounds and
pauses, so that it does not swing: a load that just fits changes nothing.
"""

from dataclasses import dataclass

from engine.core.pool.slot import Phase, Slot

WAIT_S = 1.0  # tasks that wait for less are no reason for another worker
CPU_SHARE_MAX = 0.85  # of the host's processor time: beyond it another worker would only take from the others
IDLE_S = 30.0  # a place that nobody needed for so long is given up
GROWTH_SHARE = 0.25  # of the places that there are, at a time
REST_S = 3.0  # after a change, for its effect to show


@dataclass(frozen=True, slots=True)
class Scale:
    """Between which numbers of workers a pool may be told to be, or choose by itself."""

    least: int
    most: int

    def __post_init__(self) -> None:
        assert 1 <= self.least <= self.most, "a pool has at least one place"

    def bounded(self, size: int) -> int:
        return min(max(size, self.least), self.most)


@dataclass(frozen=True, slots=True)
class Load:
    """What a pool looks like at one moment. `wait_s` is the age of the oldest task that it could run, 0 for none."""

    places: int
    idle: int
    wait_s: float
    cpu_share: float


class AutoSize:
    """Remembers since when somebody was idle, and when it changed anything last."""

    def __init__(self, scale: Scale) -> None:
        self.scale = scale
        self._idle_since_s: float | None = None
        self._rests_until_s = 0.0

    def size(self, load: Load, now_s: float) -> int:
        """How many places the pool should have from now on."""
        if not load.idle:
            self._idle_since_s = None
        elif self._idle_since_s is None:
            self._idle_since_s = now_s
        wanted = self.scale.bounded(self._wanted(load, now_s))
        if wanted != load.places:
            self._rests_until_s, self._idle_since_s = now_s + REST_S, None
        return wanted

    def _wanted(self, load: Load, now_s: float) -> int:
        if now_s < self._rests_until_s:
            return load.places
        if load.wait_s >= WAIT_S and not load.idle and load.cpu_share < CPU_SHARE_MAX:
            return load.places + max(1, int(load.places * GROWTH_SHARE))
        if self._idle_since_s is not None and now_s >= self._idle_since_s + IDLE_S:
            return load.places - 1
        return load.places


def places(slots: list[Slot]) -> int:
    """How many there are."""
    return sum(not slot.spare for slot in slots)


def shrink(slots: list[Slot], size: int) -> list[Slot]:
    """Take places away, those first whose workers have nothing to do; return them."""
    members = sorted((slot for slot in slots if not slot.spare), key=_keep)
    leaving = members[: max(0, len(members) - size)]
    for slot in leaving:
        slot.spare = True
    return leaving


def take_in(slots: list[Slot], size: int) -> None:
    """Give places again to workers that were to go after what they run; each is replaced after that all the same."""
    for slot in slots:
        if places(slots) < size and slot.spare and slot.phase is Phase.UP and slot.runs[0].cancelled is None:
            slot.spare = False


_ORDER = {Phase.DOWN: 0, Phase.QUITTING: 1, Phase.DYING: 1, Phase.BOOTING: 2}


def _keep(slot: Slot) -> tuple[int, int, int]:
    """Who stays the longest: those at work, and of these who came first."""
    return _ORDER.get(slot.phase, 3), len(slot.runs), -slot.index
