"""When what was measured of the processes of a tree is published: less often while nothing goes on, since talking to
Redis is most of what an idle engine would do."""

from collections.abc import Mapping
from typing import Any

QUIET_PERCENT = 2.0  # of a core, of each process
QUIET_S = 5.0  # well before what was published last vanishes


class Sampling:
    def __init__(self) -> None:
        self._pids: frozenset[int] = frozenset()  # of what was published last
        self._published_s = float("-inf")
        self._is_quiet = False  # they were, when they were looked at last

    def is_awaited(self, now_s: float) -> bool:
        """Whether the next samples will most likely be published, and are worth a whole look at each process."""
        return not self._is_quiet or now_s >= self._published_s + QUIET_S

    def is_due(self, samples: Mapping[int, Mapping[str, Any]], now_s: float) -> bool:
        """Whether to publish these samples: always, unless these are the same processes and none does anything."""
        pids = frozenset(samples)
        self._is_quiet = pids == self._pids and all(
            (sample["cpu_percent"] or 0.0) < QUIET_PERCENT for sample in samples.values())
        if self._is_quiet and now_s < self._published_s + QUIET_S:
            return False
        self._pids, self._published_s = pids, now_s
        return True
