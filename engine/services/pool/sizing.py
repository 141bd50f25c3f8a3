"""The size of a pool: as it was told, or as its load asks for (`core/pool/resizing.py`), looked at once a second."""

import logging
from collections.abc import Callable, Mapping
from typing import Any

from engine.core.pool import resizing
from engine.core.pool.dispatch import Dispatch
from engine.core.pool.resizing import AutoSize, Load, Scale
from engine.core.pool.slot import NEVER, Phase
from engine.ports.supervisor_broker import Parted, SupervisorBroker, Waited
from engine.services.pool.registry import EventHandler, Kind, Part

LOOK_S = 1.0

log = logging.getLogger("ganger.execution")


class Sizing(Part):
    """`cpu_share` returns the part of the host's CPU time that was used since the last call, 0 to 1."""

    def __init__(self, core: Dispatch, broker: SupervisorBroker, scale: Scale, cpu_share: Callable[[], float],
                 *, auto: bool) -> None:
        self.core, self.broker, self.scale, self.cpu_share = core, broker, scale, cpu_share
        self.auto = AutoSize(scale) if auto else None
        self.orders = 0  # to change the size, so far
        self._look_s = 0.0
        self._is_asked = False  # Redis, how long tasks wait

    def handles(self) -> Mapping[Kind, EventHandler]:
        return {Waited: self.waited, Parted: self.parted}

    def order(self, workers: Any, now_s: float) -> None:
        """Have a number of workers, brought within the bounds, or, with "auto", as many as the load asks for."""
        self.orders += 1
        if workers == "auto":
            if self.auto is None:
                self.auto = AutoSize(self.scale)
            log.info("the number of workers follows the load", extra={
                "least": self.scale.least, "most": self.scale.most, "workers": resizing.size_of(self.core.slots)})
        elif type(workers) is int:
            self.auto = None
            self._resize(self.scale.bounded(workers), "told to", now_s)
        else:
            log.warning("a number of workers that is none", extra={"workers": str(workers)[:80]})

    def next_deadline_s(self) -> float:
        return NEVER if self.auto is None or self._is_asked or not self.broker.up else self._look_s

    def tick(self, now_s: float) -> None:
        if now_s >= self.next_deadline_s():
            self._look_s, self._is_asked = now_s + LOOK_S, True
            self.broker.ask_waits()

    def waited(self, event: Waited, now_s: float) -> None:
        """Redis has said for how long the first tasks of the queues have waited."""
        self._is_asked = False
        if self.auto is None or self.core.draining:
            return
        counted = [slot for slot in self.core.slots if slot.counts_toward_size]
        idle = sum(slot.phase is Phase.UP and not slot.runs for slot in counted)
        load = Load(len(counted), idle, event.wait_s, self.cpu_share())
        size = self.auto.size(load, now_s)
        if size != load.size:
            seen = f"{load.idle} idle, tasks wait {load.wait_s:.1f} s, processors {load.cpu_share:.0%} busy"
            self._resize(size, seen, now_s)

    def parted(self, event: Parted, now_s: float) -> None:
        """Redis is away: the question will not be answered."""
        self._is_asked = False

    def _resize(self, size: int, reason: str, now_s: float) -> None:
        if self.core.draining:
            return
        log.info("the number of workers changes", extra={
            "workers": size, "before": resizing.size_of(self.core.slots), "reason": reason})
        self.core.resize(size, now_s)
