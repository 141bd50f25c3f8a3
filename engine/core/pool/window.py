"""How many runs to send to one worker ahead of time.

A worker that waits for its next task through the pool and Redis is idle for
a fraction of a millisecond. That is much for a run of 50 µs and nothing for
one of 50 ms; so as many runs wait behind the first as fill a few milliseconds,
by a running mean of what each handler took, and none as soon as runs are long.
"""

from dataclasses import dataclass, field

AHEAD_S = 0.004  # work to have in a worker's pipe: well above a Redis round trip, well below what a person notices
PATIENCE_S = 0.010  # a run that takes longer than this gives up what waits behind it
_WEIGHT = 1 / 16  # of the newest run in the mean


@dataclass(slots=True)
class Windows:
    """Running means of run times in seconds, by handler and overall."""

    most: int
    mean_s: float = 1.0
    _by_type: dict[str, float] = field(default_factory=dict)

    def observe(self, task_type: str, wall_s: float) -> None:
        means = self._by_type
        mean_s = means.get(task_type)
        means[task_type] = wall_s if mean_s is None else mean_s + (wall_s - mean_s) * _WEIGHT
        self.mean_s += (wall_s - self.mean_s) * _WEIGHT

    def of(self, task_type: str) -> int:
        """The window for a handler: 1 for one never seen."""
        return self._size(self._by_type.get(task_type, float("inf")))

    @property
    def overall(self) -> int:
        """The window for tasks not yet known, which is what a claim is for."""
        return self._size(self.mean_s)

    def _size(self, mean_s: float) -> int:
        if mean_s * self.most <= AHEAD_S:
            return self.most
        return min(self.most, 1 + int(AHEAD_S / mean_s))
