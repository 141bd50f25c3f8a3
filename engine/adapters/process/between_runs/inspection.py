"""What a worker does between two runs, after a reply and before the next task: once a second, and after each run that
was long enough, or failed, to have left something behind."""

from dataclasses import dataclass

from engine.adapters.process.between_runs.leftovers import Leftovers
from engine.adapters.process.between_runs.memory_growth import MemoryGrowth
from engine.adapters.process.between_runs.orphans import Orphans
from engine.adapters.process.worker.meter import Meter

LEAVES_S = 0.001  # a shorter run has hardly started a process
_LOOK_S = 1.0


@dataclass(slots=True)
class BetweenRuns:
    """`due_s` is the moment (time.monotonic) from which `tidy` is to be called after a reply."""

    growth: MemoryGrowth
    leftovers: Leftovers
    orphans: Orphans
    meter: Meter
    due_s: float = 0.0

    def tidy(self, now_s: float) -> None:
        """Look at what the runs have left. Waits while there are children and no task."""
        self.leftovers.put_back()
        if now_s >= self.growth.look_s:
            self.growth.look(now_s)
        self.due_s = min(now_s + _LOOK_S, self.growth.look_s)
        if self.orphans.reap():
            self.meter.forget_children()  # what orphans used is not the next run's
