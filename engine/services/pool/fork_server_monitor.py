"""A pool's side of its fork server: serve the handlers that it has imported, say ready, give up if it dies often.

Duties
1. Start to serve when the fork server is ready. If handlers are missing at the first start, ask the root first.
2. Tell the root once that the pool is ready: its workers are up, and Redis knows its handlers.
3. Start the fork server again when it is gone, within the restart budget.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any

from engine.core.pool import resizing
from engine.core.pool.actions import Halt
from engine.core.pool.dispatch import Dispatch
from engine.core.worker import inherited_state
from engine.ports.clock import Clock
from engine.ports.host import Booted, Host, ServerLost, ServerReady
from engine.ports.supervisor_broker import Joined, SupervisorBroker
from engine.services.pool import imports
from engine.services.pool.lease_reconciler import LeaseReconciler
from engine.services.pool.pool_terms import PoolTerms
from engine.services.pool.registry import ActionHandler, EventHandler, Kind, Part
from engine.services.pool.step_pipeline import StepPipeline
from engine.services.pool.worker_deaths import DeathLog

log = logging.getLogger("ganger.execution")


class ForkServerMonitor(Part):
    """`tell_root` sends a message to the parent process."""

    def __init__(self, terms: PoolTerms, core: Dispatch, host: Host, broker: SupervisorBroker, clock: Clock,
                 pipeline: StepPipeline, reconciler: LeaseReconciler, deaths: DeathLog,
                 tell_root: Callable[[dict[str, Any]], None]) -> None:
        self.terms, self.core, self.host, self.broker, self.clock = terms, core, host, broker, clock
        self.pipeline, self.reconciler, self.deaths, self.tell_root = pipeline, reconciler, deaths, tell_root
        self.failures: dict[str, str] = {}  # module -> traceback of its import
        self.inherited: dict[str, Any] = {}  # what a fork does not carry over, see core/worker/inherited_state
        self.halted: str | None = None  # why the pool has given up
        self._has_said_ready = False
        self._doubtful: ServerReady | None = None  # the root is asked whether to serve without what is missing
        self._has_asked = self._may_go_on = False

    def handles(self) -> Mapping[Kind, EventHandler]:
        return {ServerReady: self.server_ready, ServerLost: self.server_lost,
                Booted: self._say_ready, Joined: self._say_ready}

    def carries_out(self) -> Mapping[Kind, ActionHandler]:
        return {Halt: self.halt}

    def server_ready(self, event: ServerReady, now_s: float) -> None:
        """A first start does without handlers only if the root says so: it knows whether others run on meanwhile."""
        event.failures = imports.shortened(event.failures)
        problem = imports.problem(event.failures, event.handlers)
        if problem is None or not self.terms.needs_handlers or self._may_go_on:
            self._serve(event, now_s)
            return
        self._doubtful = event
        if not self._has_asked:
            self._has_asked = True
            self.tell_root({"is": "refused", "reason": problem})

    def allow_missing_handlers(self) -> None:
        """The root has said yes, for this start and all later ones. `serve_doubtful` follows."""
        self._may_go_on = True

    def serve_doubtful(self, now_s: float) -> None:
        """Serve what could be imported, if the root was asked about it."""
        if self._doubtful is not None:
            self._serve(self._doubtful, now_s)

    def server_lost(self, event: ServerLost, now_s: float) -> None:
        log.error("the fork server is gone", extra={"reason": event.reason})
        self._doubtful = None  # the next one says anew what it has imported
        self.deaths.server_lost(event.reason, self.clock.now_ms())
        if not self.core.workers.budget.spend(now_s):
            self.halt(Halt("the fork server dies faster than the restart budget allows"))
        elif not self.core.draining:
            self.host.start()

    def halt(self, command: Halt) -> None:
        """The pool cannot go on: end it. Its parent decides what follows."""
        log.error("the pool gives up", extra={"reason": command.reason})
        self.halted = command.reason
        self.core.stop()

    def _serve(self, event: ServerReady, now_s: float) -> None:
        self._may_go_on, self._doubtful = True, None
        self.failures, self.inherited = event.failures, event.inherited
        self.reconciler.serve(event.handlers)
        for module, text in event.failures.items():
            log.error("a handler module cannot be imported", extra={"handler_module": module, "traceback": text})
        for warning in inherited_state.warnings(event.inherited):
            log.warning(warning)
        names = " ".join(sorted(handler["name"] for handler in event.handlers))
        log.log(logging.INFO if names else logging.WARNING, "serving", extra={
            "handlers": names or "none: name a module with --handlers",
            "queues": " ".join(self.terms.queues) or "all", "workers": resizing.size_of(self.core.slots)})
        self.core.start(now_s)

    def _say_ready(self, event: Booted | Joined, now_s: float) -> None:
        if not self._has_said_ready and self.broker.up and all(
                slot.pid is not None or not slot.counts_toward_size for slot in self.core.slots):
            self._has_said_ready = True
            self.pipeline.report_soon()
            self.tell_root({"is": "ready", "handlers": [handler["name"] for handler in self.reconciler.handlers],
                            "failures": self.failures})
