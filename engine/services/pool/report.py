"""What a supervisor reports of itself: JSON in Redis, for the CLI and the API."""

import os
import socket
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import orjson

from engine.adapters.kernel import identity
from engine.core.pool import resizing
from engine.core.pool.dispatch import Dispatch
from engine.core.pool.slot import Phase, Slot
from engine.core.task.priority import TaskPriority
from engine.ports.clock import Clock
from engine.ports.host import Host
from engine.services.pool.fork_server_monitor import ForkServerMonitor
from engine.services.pool.lease_reconciler import LeaseReconciler
from engine.services.pool.pool_terms import PoolTerms
from engine.services.pool.sizing import Sizing
from engine.services.pool.step_pipeline import StepPipeline
from engine.services.pool.worker_deaths import DeathLog


@dataclass(slots=True)
class ReportWriter:
    """Writes the report of a pool from the state of its parts."""

    terms: PoolTerms
    core: Dispatch
    host: Host
    clock: Clock
    pipeline: StepPipeline
    reconciler: LeaseReconciler
    fork_server: ForkServerMonitor
    sizing: Sizing
    deaths: DeathLog
    started_ms: int = field(init=False)

    def __post_init__(self) -> None:
        self.started_ms = self.clock.now_ms()

    def encode(self, now_s: float) -> bytes:
        """Return the report as of the moment `now_s` (seconds, monotonic)."""
        terms, core, sizing, deaths = self.terms, self.core, self.sizing, self.deaths
        return orjson.dumps({
            "supervisor": terms.supervisor, "pool": terms.pool, "host": socket.gethostname(), "pid": os.getpid(),
            "identity": {**_identity(os.getpid()), "below": self.host.processes()}, "lease_s": terms.lease_s,
            "root_pid": os.getppid(), "queues": list(terms.queues) or ["*"], "version": terms.version,
            "enforcement": terms.enforcement,
            "started_ms": self.started_ms, "at_ms": self.clock.now_ms(), "draining": core.draining,
            "outcomes_pending": len(self.pipeline.outbox),
            "workers": resizing.size_of(core.slots), "scale": "fixed" if sizing.auto is None else "auto",
            "scaled": sizing.orders, "frozen_ever": core.preemption.suspended_count,
            "import_failures": self.fork_server.failures, "handlers": len(self.reconciler.handlers), "stopped": [
                {"task_type": name, "for_s": round(stop.until_s - now_s, 3), "deaths": stop.deaths}
                for name, stop in core.breaker.stopped(now_s).items()],
            "hook_failures": deaths.hooks, "fork_server": deaths.server, "deaths": list(deaths.workers),
            "slots": [_slot(slot, now_s, deaths.last_of(slot.index)) for slot in core.slots
                      if slot.counts_toward_size or slot.phase is not Phase.DOWN],
        })


@cache
def _identity(pid: int) -> dict[str, Any]:
    """The identity of the supervisor, for keepers of the same kernel."""
    return {"host_id": identity.host_id(), "pid": pid, "born_at": identity.born_at(pid)}


def _slot(slot: Slot, now_s: float, last_death: dict[str, Any] | None) -> dict[str, Any]:
    run = slot.runs[0] if slot.runs else None
    state = "busy" if slot.phase is Phase.UP and run else "idle" if slot.phase is Phase.UP else slot.phase.value
    return {
        "slot": slot.index, "pid": slot.pid, "state": state, "served": slot.served, "restarts": slot.restarts,
        "last_death": last_death,
        "waiting": max(0, len(slot.runs) - 1), "has_place": slot.counts_toward_size,
        "frozen": slot.phase is Phase.SUSPENDED,
        "task": None if run is None else {
            "id": run.task_id.decode(), "task_type": run.task_type, "run": run.number,
            "priority": TaskPriority(run.priority).name, "running_s": round(slot.running_s(now_s), 3),
            "stood_s": round(slot.suspended_s(now_s), 3), "timeout_s": run.policy.timeout_s},
    }
