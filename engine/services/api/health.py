"""Whether tasks that are submitted now would run: why not, and what works only in part.

Whoever asks needs no key, so what is found is kept for a second, however many ask, and read once at a time.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from engine.adapters.redis.tasks.waits_for import shown
from engine.client.operator import Operator
from engine.errors import GangerError
from engine.services.background import Background
from engine.services.thread_pool import ThreadPool

KEPT_S = 1.0
SILENT_S = 15.0  # a pool reports every three seconds, with the steps that Redis accepts


class HealthFindings(NamedTuple):
    """`reasons`: why tasks would wait. `degraded`: what works only in part."""

    reasons: list[str]
    degraded: list[str]


class Health:
    def __init__(self, operator: Operator, threads: ThreadPool, background: Background) -> None:
        self._operator, self._threads, self._background = operator, threads, background
        self._found, self._found_s = HealthFindings([], []), float("-inf")
        self._reading = asyncio.Lock()

    async def findings(self) -> HealthFindings:
        """At most a second old."""
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
        broker = self._operator.broker
        reports, now_ms = broker.supervisors(), broker.clock.now_ms()
        found = judge(reports, set(self._operator.handlers()), now_ms)
        unknown = broker.unknown_types()
        if unknown and any(report["alive"] for report in reports):
            found.degraded.append(f"tasks wait whose type no living pool knows: {shown(unknown)}")
        return found


def judge(reports: Sequence[Mapping[str, Any]], handlers: set[str], now_ms: float) -> HealthFindings:
    """What the pools' reports and the announced handlers come to. Pure."""
    alive = [report for report in reports if report["alive"]]
    if not alive:
        return HealthFindings(["no pool is running"], [])
    silent = [report for report in alive if now_ms - (report.get("at_ms") or now_ms) > SILENT_S * 1000]
    failed = sorted({module for report in alive for module in report.get("import_failures") or ()})
    told = [f"the pool {report.get('pool')} has had no step accepted by Redis for "
            f"{(now_ms - report['at_ms']) / 1000:.0f} s" for report in silent]
    reasons = told if len(silent) == len(alive) else []
    degraded = [] if reasons else told
    imports = f"these modules cannot be imported: {', '.join(failed)}" if failed else ""
    if not handlers or all(report.get("handlers") == 0 for report in alive):
        reasons.append("no pool knows a handler" + (f"; {imports}" if imports else ""))
    elif imports:
        degraded.append(imports)
    if not any(slot.get("pid") for report in alive for slot in report.get("slots", ())):
        reasons.append("no worker is up")
    if all(report.get("draining") for report in alive):
        reasons.append("every pool is draining")
    return HealthFindings(reasons, degraded)
