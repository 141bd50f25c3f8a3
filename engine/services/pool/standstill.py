"""Notices that every worker of a pool waits for other tasks: if these are to run in the pool, none of them goes on."""

import logging
from collections.abc import Mapping

from engine.core.pool.dispatch import Dispatch
from engine.ports.host import Exited, Waits
from engine.services.pool.registry import EventHandler, Kind, Part

PATIENCE_S = 3.0  # the tasks that are waited for may be about to end elsewhere

_REMEDY = "give tasks that are waited for the priority URGENT, or a queue with a pool of its own"

log = logging.getLogger("ganger.execution")


class Standstill(Part):
    """Logs it once, with what can be done."""

    def __init__(self, core: Dispatch) -> None:
        self._core = core
        self._waiting: set[int] = set()  # slots
        self._since_s: float | None = None
        self._has_said = False

    def handles(self) -> Mapping[Kind, EventHandler]:
        return {Waits: self.waits, Exited: self.exited}

    def waits(self, event: Waits, now_s: float) -> None:
        """A worker's run waits for other tasks, or no longer does."""
        (self._waiting.add if event.does else self._waiting.discard)(event.slot)

    def exited(self, event: Exited, now_s: float) -> None:
        """A worker is gone."""
        self._waiting.discard(event.slot)

    def look(self, now_s: float) -> None:
        """To be called every second or so."""
        if not self._waiting or self._has_said:
            return
        counted = [slot for slot in self._core.slots if slot.counts_toward_size]
        if not all(slot.index in self._waiting and slot.runs for slot in counted):
            self._since_s = None
        elif self._since_s is None:
            self._since_s = now_s
        elif now_s - self._since_s >= PATIENCE_S:
            self._has_said = True
            log.warning("every worker waits for other tasks: if these are for this pool, it stands until a timeout",
                        extra={"workers": len(counted), "remedy": _REMEDY,
                               "task_types": sorted({slot.runs[0].task_type for slot in counted})})
