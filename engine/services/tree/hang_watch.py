"""Ends children whose loops have stopped going round: such a child says nothing any more."""

import logging
import time

from engine.services.tree.children import ChildDeaths, ChildProcess, ChildProcesses
from engine.services.tree.services import without_generation

HANG_S = 60.0  # a child that has said nothing for so long is ended
LEASE_MARGIN_S = 4.0  # a pool that hangs is ended so long before its lease can be over
SILENCE_S_MIN = 4.0  # a healthy pool says something every 2 s
LOOK_S = 1.0  # how often to look

log = logging.getLogger("ganger.execution")


class HangWatch:
    """Watches the children of one root."""

    def __init__(self, processes: ChildProcesses, deaths: ChildDeaths) -> None:
        self._processes, self._deaths = processes, deaths
        self._looked_s = time.monotonic()

    def end_hung(self, lease_s: float) -> None:
        """Kill the children that have been silent for too long; `lease_s` is how long a pool's lease lasts."""
        now_s = time.monotonic()
        stood_still = now_s - self._looked_s > 3 * LOOK_S  # so did the children, perhaps: hear them first
        self._looked_s = now_s
        for child in list(self._processes.running.values()):
            if stood_still:
                child.well_s = now_s
            if now_s - child.well_s > _silence_s(child, lease_s):
                log.error("a child hangs", extra={"child": child.name, "silent_s": round(now_s - child.well_s)})
                child.well_s = now_s
                self._deaths.hangs(child.name)
                self._processes.kill(child.name)


def _silence_s(child: ChildProcess, lease_s: float) -> float:
    """How long a child may say nothing.

    A pool that is stopped cannot fence itself. Its end is the end of its runs, which must come before its lease is over
    and another pool starts them.
    """
    if not child.has_spoken or without_generation(child.name) == "keeper":
        return HANG_S
    return min(HANG_S, max(lease_s - LEASE_MARGIN_S, SILENCE_S_MIN))
