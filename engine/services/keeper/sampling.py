"""How often the processes of a tree are looked at: less often while nothing goes on, since looking is most of what an
idle engine would do."""

from collections.abc import Mapping
from typing import Any

QUIET_PERCENT = 2.0  # of a core, of each process
QUIET_INTERVAL_S = 5.0  # well before what was published last vanishes


class Sampling:
    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._pids: frozenset[int] = frozenset()  # of the last sample

    def rest_s(self, samples: Mapping[int, Mapping[str, Any]]) -> float:
        """How long until the next: longer if these are the same processes as before, and none does anything."""
        before, self._pids = self._pids, frozenset(samples)
        is_quiet = before == self._pids and all(
            (sample["cpu_percent"] or 0.0) < QUIET_PERCENT for sample in samples.values())
        return max(self._interval_s, QUIET_INTERVAL_S) if is_quiet else self._interval_s
