"""Whether tasks that are submitted now would run: why not, and what works only in part.

A caller needs no key for it, so the findings are kept for a second, however many callers there are.
"""

import asyncio
import time

from engine.core.measure.health import HealthFindings, find_problems
from engine.core.task.names import types_in_words
from engine.errors import GangerError
from engine.ports.engine_broker import EngineBrokerProvider
from engine.services.background import Background
from engine.services.thread_pool import ThreadPool

KEPT_S = 1.0


class Health:
    """Used on one event loop. The jobs in the background are part of the findings."""

    def __init__(self, provider: EngineBrokerProvider, threads: ThreadPool, background: Background) -> None:
        self._provider, self._threads, self._background = provider, threads, background
        self._found, self._found_s = HealthFindings([], []), float("-inf")
        self._reading = asyncio.Lock()

    async def findings(self) -> HealthFindings:
        """Return the findings, at most KEPT_S seconds old. A Redis that is away is one of them."""
        async with self._reading:
            if time.monotonic() - self._found_s > KEPT_S:
                self._found = await self._look()
                self._found_s = time.monotonic()
        return self._found

    async def _look(self) -> HealthFindings:
        try:
            found = await self._threads.run(self._read)
        except GangerError as error:
            found = HealthFindings([str(error)], [])
        return HealthFindings(found.reasons, [*found.degraded, *self._background.troubles()])

    def _read(self) -> HealthFindings:
        broker = self._provider.broker()
        reports, now_ms = broker.supervisors(), broker.clock.now_ms()
        found = find_problems(reports, set(broker.handlers()), now_ms)
        unknown = broker.unknown_types()
        if unknown and any(report["alive"] for report in reports):
            found.degraded.append(f"tasks wait whose type no living pool knows: {types_in_words(unknown)}")
        return found
