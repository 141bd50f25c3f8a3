"""Counts what happens to tasks, from the stream of events, for the metrics of this process."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from engine.client.operations import read_tasks
from engine.core.measure.reports import with_measurements
from engine.core.task.stored_task import StoredTask
from engine.errors import GangerError
from engine.ports.engine_broker import EngineBrokerProvider
from engine.ports.event_stream import BEGINNING
from engine.services.event_feed import EventBatch, EventFeed
from engine.services.metrics.prometheus import PrometheusMetrics
from engine.services.metrics.window import MetricsWindow
from engine.services.thread_pool import ThreadPool

log = logging.getLogger("ganger.errors")


class MetricsCollector:
    """Used on one event loop.

    Args:
        at_end: called with each task that ends while we count, and whose details were read.
    """

    def __init__(self, provider: EngineBrokerProvider, feed: EventFeed, threads: ThreadPool,
                 at_end: Callable[[StoredTask], None]) -> None:
        self._provider, self._feed, self._threads = provider, feed, threads
        self.window, self.prometheus = MetricsWindow(), PrometheusMetrics()
        self._at_end, self._since_s = at_end, time.time()
        self._position = BEGINNING

    async def follow(self) -> None:
        """Count the events of the stream from its beginning, without end."""
        while not self._feed.has_hung_up:
            try:
                async for batch in self._feed.follow(self._position):
                    if batch.entries:  # first of all: nothing is counted twice, also where this fails
                        self._position = batch.entries[-1].id
                    await self.count(batch)
            except GangerError as error:
                log.debug("not counted: Redis is away", extra={"reason": str(error)})
                await asyncio.sleep(1.0)

    async def count(self, batch: EventBatch) -> None:
        """Count the events of one batch. Raises `BrokerError` where the details of ends cannot be read."""
        if batch.gap:
            self.window.gaps += 1
            self.prometheus.count_gap()
            log.warning("some events are not in the metrics: the stream did not have them any more")
        wanted = self.window.count(batch.entries)
        for entry in batch.entries:
            self.prometheus.count(entry.events)
        found: list[StoredTask | None] = []
        if wanted:
            found = await self._threads.run(self._read, wanted)
        self._report_ends(found)
        self.prometheus.learn(self.window.learn(found))

    def _report_ends(self, found: list[StoredTask | None]) -> None:
        for stored in found:
            if stored is not None and stored.state.status.is_final and stored.state.at_ms / 1000 > self._since_s:
                self._at_end(stored)

    def _read(self, task_ids: Sequence[str]) -> list[StoredTask | None]:
        return read_tasks(self._provider.broker(), task_ids)

    def reports(self) -> list[dict[str, Any]]:
        """Return the supervisors' reports with the measurements of their processes. Raises `BrokerError`."""
        return with_measurements(self._provider.broker().supervisors(), self._provider.broker().processes())
