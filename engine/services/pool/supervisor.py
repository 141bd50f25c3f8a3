"""The supervisor of a pool: tasks come from Redis and go to workers over pipes. It owns the leases of its runs.

Each turn
1. wait until something happens or a deadline is near;
2. give what the workers, Redis and the root said to the parts that handle it (`registry`), which tell the dispatcher;
3. carry out what the dispatcher asks for;
4. let Redis know, and ask it for more.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from engine.core.pool.dispatch import Dispatch
from engine.ports.clock import Clock
from engine.ports.host import Host
from engine.ports.poller import Poller
from engine.ports.supervisor_broker import SupervisorBroker
from engine.services.pool.command_queue import CommandQueue
from engine.services.pool.fork_server_monitor import ForkServerMonitor
from engine.services.pool.lease_reconciler import LeaseReconciler
from engine.services.pool.pool_terms import PoolTerms
from engine.services.pool.registry import Registry
from engine.services.pool.report import ReportWriter
from engine.services.pool.run_factory import RunFactory
from engine.services.pool.run_logger import RunLogger
from engine.services.pool.run_output import RunOutputForwarder
from engine.services.pool.sizing import Sizing
from engine.services.pool.standstill import Standstill
from engine.services.pool.step_pipeline import StepPipeline
from engine.services.pool.worker_control import WorkerControl
from engine.services.pool.worker_deaths import DeathLog

log = logging.getLogger("ganger.execution")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a pool needs of the world outside.

    `clock`: Redis's time. `tell_root`: sends a message to the parent process. `monotonic_s`: the moment in seconds.
    `cpu_share`: the part of the host's CPU time that was used since the last call, 0 to 1.
    """

    host: Host
    broker: SupervisorBroker
    poller: Poller
    clock: Clock
    tell_root: Callable[[dict[str, Any]], None]
    monotonic_s: Callable[[], float] = time.monotonic
    cpu_share: Callable[[], float] = lambda: 0.0


class Pool:
    """Turns, and dispatches events and actions to its parts; decides nothing."""

    def __init__(self, terms: PoolTerms, core: Dispatch, outside: Surroundings) -> None:
        host, broker, clock = outside.host, outside.broker, outside.clock
        self.terms, self.core, self.host, self.broker, self.clock = terms, core, host, broker, clock
        self.poller, self.monotonic_s = outside.poller, outside.monotonic_s
        self.run_logger = RunLogger(outside.monotonic_s)
        self.pipeline = pipeline = StepPipeline(terms, broker, clock, self.run_logger)
        self.reconciler = LeaseReconciler(core, RunFactory(terms.policy), broker, pipeline, clock)
        self.command_queue = CommandQueue(core, host, pipeline)
        self.sizing = Sizing(core, broker, terms.scale, outside.cpu_share, auto=terms.scale_auto)
        self.standstill = Standstill(core)
        deaths = DeathLog()
        self.fork_server = ForkServerMonitor(terms, core, host, broker, clock, pipeline, self.reconciler, deaths,
                                      outside.tell_root)
        workers = WorkerControl(terms.supervisor, core, host, clock, pipeline, self.fork_server, deaths,
                                outside.monotonic_s)
        output = RunOutputForwarder(terms.supervisor, core, broker, pipeline, clock, deaths)
        self.registry = Registry([pipeline, self.reconciler, self.command_queue, workers, self.fork_server, output,
                                  self.sizing, self.standstill])
        self.report = ReportWriter(terms, core, host, clock, pipeline, self.reconciler, self.fork_server, self.sizing,
                                   deaths)
        self._is_stopped = False
        self._requests: list[Callable[[float], None]] = []  # of the root: to drain, to stop, …

    # -- the loop -------------------------------------------------------------------------------------------------

    def start(self) -> None:
        self.host.start()

    def turn(self, patience_s: float) -> None:
        """One round; waits for `patience_s` seconds at most."""
        registry, core = self.registry, self.core
        self.poller.wait(min(patience_s, self._idle_s()))
        now_s = self.monotonic_s()
        self.host.tick(now_s)
        self.broker.tick(now_s)
        registry.handle(self.host.events(), now_s)
        registry.handle(self.broker.events(), now_s)
        if self.pipeline.must_fence(now_s):
            self._fence()
        core.fill(now_s)
        registry.carry_out(core.actions)  # before all that can wait: a task that comes alone waits for nothing else
        while self._requests:
            self._requests.pop(0)(now_s)
        self.sizing.tick(now_s)
        core.tick(now_s)
        self.run_logger.tick(now_s)
        self.standstill.look(now_s)
        registry.carry_out(core.actions)
        self.pipeline.send_step(core.room(now_s), len(core.runs), lambda: self.report.encode(now_s), now_s,
                                self.command_queue.last_command)

    @property
    def is_done(self) -> bool:
        """Drained: no run, no process, and nothing left to tell Redis, or a lease that has ended anyway."""
        if not (self.core.draining and self.core.is_empty):
            return False
        if self._is_stopped and not self.broker.up and self.pipeline.lease_is_over(self.monotonic_s()):
            return True
        return not self.pipeline.outbox and not self.pipeline.is_under_way

    @property
    def halted(self) -> str | None:
        """Why the pool has given up, if it has."""
        return self.fork_server.halted

    # -- what the root asks for -----------------------------------------------------------------------------------
    # Each takes effect in this turn or the next, after the events of that turn: a call may come in the middle of one.

    def drain(self) -> None:
        """Take nothing new, and end when all runs have ended, or after `grace_s`."""
        self._requests.append(lambda now_s: self.core.drain(now_s, self.terms.grace_s))

    def stop(self) -> None:
        """End at once. What Redis has not been told by the end of the lease is left to the rescue of its tasks."""
        self._is_stopped = True
        self._requests.append(lambda now_s: self.core.stop())

    def scale(self, workers: Any) -> None:
        """Have so many workers, or, with "auto", as many as the load asks for."""
        self._requests.append(lambda now_s: self.sizing.order(workers, now_s))
        self.pipeline.report_soon()

    def go_on(self) -> None:
        """Serve what can be imported, though handlers are missing."""
        self.fork_server.allow_missing_handlers()
        self._requests.append(self.fork_server.serve_doubtful)

    def _idle_s(self) -> float:
        """How many seconds nothing needs to be done, if nothing happens."""
        if self.core.actions or self._requests:
            return 0.0
        wake_s = min(self.core.next_deadline_s(), self.broker.next_deadline_s(), self.pipeline.next_deadline_s(),
                     self.sizing.next_deadline_s(), self.host.next_deadline_s() or float("inf"))
        if self.pipeline.was_woken:  # perhaps for something urgent, for which a run can be suspended in a moment
            wake_s = min(wake_s, self.core.preemption.ripe_s)
        return max(0.0, wake_s - self.monotonic_s())

    def _fence(self) -> None:
        log.error("the lease is about to lapse: all runs are ended", extra={"runs": len(self.core.runs)})
        self.core.fence()
