"""The supervisor of a pool: Redis in, pipes out; it owns the leases and deadlines of its runs.

Each turn
1. wait until something happens or a deadline is near;
2. tell the core what the workers, Redis and the root said;
3. carry out what the core asks for;
4. let Redis know, and ask it for more.
"""

import logging
import time
from collections.abc import Callable
from typing import Any

import orjson

from engine.adapters.clock import RedisClock
from engine.core.pool import resizing
from engine.core.pool.commands import (
    Command,
    Halt,
    Interrupt,
    Kill,
    Quit,
    Resume,
    Send,
    Settle,
    Spawn,
    Stopped,
    Suspend,
    TakeBack,
    Unwatch,
    Watch,
)
from engine.core.pool.dispatch import Dispatch
from engine.core.pool.slot import Run
from engine.core.task.lifecycle import Move
from engine.core.task.outcome import Outcome
from engine.core.task.retry import PAUSE_S_MAX, Verdict
from engine.core.worker import frames, inherited_state
from engine.ports.host import (
    Booted,
    Dumped,
    Exceeded,
    Exited,
    Grown,
    HookFailed,
    Host,
    Logged,
    Progressed,
    Replied,
    ServerLost,
    ServerReady,
    Spilled,
    Waits,
)
from engine.ports.poller import Poller
from engine.ports.supervisor_broker import (
    Handed,
    HeldRunsSynced,
    Joined,
    Parted,
    Refused,
    RegistrationRefused,
    Rung,
    Settlement,
    Stepped,
    SupervisorBroker,
    Waited,
)
from engine.services.pool import command_queue, imports, report, worker_deaths
from engine.services.pool.lease_reconciler import LeaseReconciler
from engine.services.pool.pool_terms import PoolTerms
from engine.services.pool.run_factory import RunFactory
from engine.services.pool.run_logger import RunLogger
from engine.services.pool.run_output import RunOutputForwarder
from engine.services.pool.sizing import Sizing
from engine.services.pool.standstill import Standstill
from engine.services.pool.step_pipeline import StepPipeline

log = logging.getLogger("ganger.execution")


class Pool:
    """Everything that it uses is given; `tell_root` sends a message to its parent."""

    def __init__(self, terms: PoolTerms, core: Dispatch, host: Host, broker: SupervisorBroker, poller: Poller,
                 clock: RedisClock, tell_root: Callable[[dict[str, Any]], None], *,
                 monotonic_s: Callable[[], float] = time.monotonic,
                 cpu_share: Callable[[], float] = lambda: 0.0) -> None:
        self.terms, self.core, self.host, self.broker, self.poller = terms, core, host, broker, poller
        self.clock, self.tell_root, self.monotonic_s = clock, tell_root, monotonic_s
        self.pipeline = StepPipeline(terms, broker)
        self.run_logger = RunLogger(monotonic_s)
        self.mailbox = command_queue.Mailbox()
        self.death_log = worker_deaths.DeathLog()
        self.sizing = Sizing(core, broker, terms.scale, cpu_share, auto=terms.scale_auto)
        self.reconciler = reconciler = LeaseReconciler(
            core, RunFactory(terms.policy), broker, self.pipeline, clock, self._settle)
        run_output = RunOutputForwarder(terms.supervisor, core, broker, self.pipeline, clock, self.death_log)
        self.standstill = Standstill(core)
        self.failures: dict[str, str] = {}
        self.inherited: dict[str, Any] = {}
        self.halted: str | None = None
        self.started_ms = clock.now_ms()
        self._said_ready = self._is_stopped = False
        self._doubtful: ServerReady | None = None  # what the root is asked about
        self._asked_root = self._may_go_on = False
        self._wishes: list[Callable[[float], None]] = []  # to drain, to stop
        self._do: dict[type[Any], Callable[[Any], None]] = {
            Send: self._send, Settle: self._settle, TakeBack: self._take_back, Kill: self._kill, Halt: self._halt,
            Spawn: lambda command: self.host.spawn(command.slot), Quit: lambda command: self.host.quit(command.slot),
            Stopped: self._stopped,
            Watch: lambda command: self.host.watch(command.slot, command.limits),
            Unwatch: lambda command: self.host.unwatch(command.slot),
            Suspend: self._suspend, Resume: self._resume,
            Interrupt: lambda command: self.host.interrupt(
                command.slot, command.token,
                frames.INTERRUPT_CANCEL if command.cancel else frames.INTERRUPT_SOFT_TIMEOUT),
        }
        self._on: dict[type[Any], Callable[[Any, float], None]] = {
            Replied: self._replied, Exited: self._exited, Booted: self._booted, Exceeded: self._exceeded,
            Grown: self._grown, HookFailed: run_output.hook_failed,
            ServerReady: self._server_ready, ServerLost: self._server_lost,
            Progressed: run_output.progressed, Logged: run_output.logged, Spilled: run_output.spilled,
            Dumped: run_output.dumped,
            Stepped: self._stepped, Refused: self._refused, Rung: self._rung, Joined: self._joined,
            Waits: self.standstill.heard, Parted: self._parted, Waited: self.sizing.waited,
            HeldRunsSynced: reconciler.held_runs_synced, Handed: reconciler.handed,
            RegistrationRefused: reconciler.registration_refused,
        }

    # -- the loop -------------------------------------------------------------------------------------------------

    def start(self) -> None:
        self.host.start()

    def turn(self, patience_s: float) -> None:
        """One round; waits for `patience_s` at most."""
        self.poller.wait(min(patience_s, self._idle_s()))
        now_s = self.monotonic_s()
        self.host.tick(now_s)
        self.broker.tick(now_s)
        for event in self.host.events():
            self._on[type(event)](event, now_s)
        for answer in self.broker.events():
            self._on[type(answer)](answer, now_s)
        if self.pipeline.must_fence(now_s):
            self._fence()
        self.core.fill(now_s)
        self._carry_out()  # before all that can wait: a task that comes alone waits for nothing else
        while self._wishes:
            self._wishes.pop(0)(now_s)
        self.sizing.tick(now_s)
        self.core.tick(now_s)
        self.run_logger.tick(now_s)
        self.standstill.look(now_s)
        self._carry_out()
        self.pipeline.step(self.core.room(now_s), len(self.core.runs), lambda: self._report(now_s), now_s,
                           self.mailbox.heard)

    @property
    def is_done(self) -> bool:
        """Drained: no run, no process, and nothing left to tell Redis, or nobody who would still listen."""
        if not (self.core.draining and self.core.is_empty):
            return False
        if self._is_stopped and not self.broker.up and self.pipeline.lease_is_over(self.monotonic_s()):
            return True
        return not self.pipeline.outbox and not self.pipeline.is_under_way

    def drain(self) -> None:
        """In this turn or the next, after what the workers said: they may be asked for before we know how it goes."""
        self._wishes.append(lambda now_s: self.core.drain(now_s, self.terms.grace_s))

    def stop(self) -> None:
        """As `drain`, at once. What Redis has not heard by the end of the lease is left to the rescue of its tasks."""
        self._is_stopped = True
        self._wishes.append(lambda now_s: self.core.stop())

    def scale(self, workers: Any) -> None:
        """As `drain`: to so many workers, or "auto"."""
        self._wishes.append(lambda now_s: self.sizing.order(workers, now_s))
        self.pipeline.report_soon()

    def _idle_s(self) -> float:
        """How long nothing needs to be done, if nothing happens."""
        if self.core.commands or self._wishes:
            return 0.0
        wake_s = min(self.core.next_deadline_s(), self.broker.next_deadline_s(), self.pipeline.next_deadline_s(),
                     self.sizing.next_deadline_s(), self.host.next_deadline_s() or float("inf"))
        if self.pipeline.called:  # perhaps for something urgent, for which a run can be suspended in a moment
            wake_s = min(wake_s, self.core.preemption.ripe_s)
        return max(0.0, wake_s - self.monotonic_s())

    def _carry_out(self) -> None:
        """A command may have the core ask for more; each such round has fewer runs left to ask about."""
        commands = self.core.commands
        while commands:
            batch: list[Command] = commands[:]
            commands.clear()
            for command in batch:
                self._do[type(command)](command)

    # -- what the core asks for -----------------------------------------------------------------------------------

    def _send(self, command: Send) -> None:
        run = command.run
        self.host.send(command.slot, frames.task(run.token, run.number, run.attempts, self.clock.offset_ms,
                                                 run.task_id, run.record))

    def _settle(self, command: Settle) -> None:
        run, verdict, outcome = command
        if isinstance(outcome, Outcome):
            outcome = outcome.encode()
        self.run_logger.ended(run, verdict, outcome)
        self.pipeline.outbox.append(Settlement(run.task_id, run.number, verdict.wire_code, self._at(run, verdict),
                                               outcome))

    def _at(self, run: Run, verdict: Verdict) -> int | str:
        move = verdict.move
        if move is Move.RELEASE:
            return run.queue
        if move is Move.COMPLETE:
            wait_s = run.policy.result_ttl_s
        else:
            wait_s = verdict.pause_s if move is Move.RETRY else run.policy.failed_ttl_s
        return self.clock.now_ms() + int(wait_s * 1000)

    def _take_back(self, command: TakeBack) -> None:
        tokens = [frames.token_of(message) for message in self.host.take_back(command.slot)]
        self.core.taken_back(command.slot, tokens, self.monotonic_s())

    def _kill(self, command: Kill) -> None:
        kill_cause = self.core.slots[command.slot].kill_cause
        self.host.kill(command.slot, kill_cause or "stopped")

    def _suspend(self, command: Suspend) -> None:
        self.host.suspend(command.slot)
        log.info("a run is suspended for an urgent one", extra=self._told_of(command.slot, command.run))

    def _resume(self, command: Resume) -> None:
        run = command.run
        self.host.resume(command.slot, None if run is None else run.token, command.suspended_s)
        if run is not None:
            log.info("a suspended run is resumed", extra={
                **self._told_of(command.slot, run), "suspended_s": round(command.suspended_s, 6)})

    def _told_of(self, slot: int, run: Run) -> dict[str, Any]:
        return {"worker": f"{self.terms.supervisor}/{slot}", "task_id": run.task_id.decode(),
                "task_type": run.task_type, "run": run.number}

    def _halt(self, command: Halt) -> None:
        log.error("the pool gives up", extra={"reason": command.reason})
        self.halted = command.reason
        self.core.stop()

    def _stopped(self, command: Stopped) -> None:
        log.error("a handler keeps costing workers, and is stopped for a while", extra={
            "task_type": command.task_type, "pause_s": command.pause_s, "deaths": command.deaths})
        self.pipeline.report_soon()

    # -- what the workers say -------------------------------------------------------------------------------------

    def _replied(self, event: Replied, now_s: float) -> None:
        slot, token, verdict, wall_us, outcome = event
        after_s = None
        if verdict != frames.COMPLETED:
            if verdict not in frames.VERDICTS:
                self.host.kill(slot, f"it does not speak our language: a verdict of {verdict!r}")
                return
            after_s = _pause_asked(outcome) if verdict == frames.RETRY else None
        self.core.replied(slot, token, verdict, wall_us / 1e6, outcome, now_s, after_s)

    def _exited(self, event: Exited, now_s: float) -> None:
        unread = [frames.token_of(message) for message in event.unread]
        slot = self.core.slots[event.slot]
        wall_s, suspended_s, since_s = slot.running_s(now_s), slot.suspended_s(now_s), slot.since_s
        log.info("a worker has ended", extra={"worker": f"{self.terms.supervisor}/{event.slot}", "pid": event.pid,
                                              "exit_code": event.exitcode, "signal": event.signal})
        if slot.boot_timed_out:
            stacks = (event.post_mortem or {}).get("stacks")
            log.error("a worker has not started in time (boot_timeout_s)", extra={
                "worker": f"{self.terms.supervisor}/{event.slot}", "stacks": stacks or None})
        self.standstill.ended(event.slot)
        if event.refused:
            self.core.start_failed(event.slot)
        else:
            self.death_log.worker_ended(slot, event, self.clock.now_ms())
        self.core.exited(event.slot, lambda run: self._death(run, event, wall_s, suspended_s, since_s), unread, now_s,
                         stranded=event.stranded)

    def _death(self, run: Run, event: Exited, wall_s: float, suspended_s: float, since_s: float) -> Outcome:
        return worker_deaths.outcome(run, event, worker=f"{self.terms.supervisor}/{event.slot}", wall_s=wall_s,
                                     suspended_s=suspended_s, since_s=since_s, now_ms=self.clock.now_ms(),
                                     inherited=self.inherited)

    def _exceeded(self, event: Exceeded, now_s: float) -> None:
        self.core.exceeded(event.slot, event.limits, event.cause, event.message)

    def _grown(self, event: Grown, now_s: float) -> None:
        log.info("a worker has grown, and is replaced", extra={
            "worker": f"{self.terms.supervisor}/{event.slot}", "grown_bytes": event.bytes})
        self.core.replace(event.slot, now_s)

    def _booted(self, event: Booted, now_s: float) -> None:
        self.death_log.worker_started()
        self.core.booted(event.slot, event.pid, now_s)
        self.pipeline.ring(mail=False)
        self._say_ready()

    def _server_ready(self, event: ServerReady, now_s: float) -> None:
        """A first start does without handlers only if the root says so: it knows whether others run on meanwhile."""
        event.failures = imports.shortened(event.failures)
        problem = imports.problem(event.failures, event.handlers)
        if problem is None or not self.terms.needs_handlers or self._may_go_on:
            self._serve(event, now_s)
            return
        self._doubtful = event
        if not self._asked_root:
            self._asked_root = True
            self.tell_root({"is": "refused", "reason": problem})

    def go_on(self) -> None:
        """Do with what can be imported."""
        self._may_go_on = True
        self._wishes.append(self._serve_doubtful)

    def _serve_doubtful(self, now_s: float) -> None:
        if self._doubtful is not None:
            self._serve(self._doubtful, now_s)

    def _serve(self, event: ServerReady, now_s: float) -> None:
        self._may_go_on, self._doubtful = True, None
        self.failures, self.inherited = event.failures, event.inherited
        self.reconciler.serve(event.handlers)
        for module, text in event.failures.items():
            log.error("a handler module cannot be imported", extra={"handler_module": module, "traceback": text})
        for warning in inherited_state.warnings(event.inherited):
            log.warning(warning)
        names = " ".join(sorted(told["name"] for told in event.handlers))
        log.log(logging.INFO if names else logging.WARNING, "serving", extra={
            "handlers": names or "none: name a module with --handlers",
            "queues": " ".join(self.terms.queues) or "all", "workers": resizing.size_of(self.core.slots)})
        self.core.start(now_s)

    def _server_lost(self, event: ServerLost, now_s: float) -> None:
        log.error("the fork server is gone", extra={"reason": event.reason})
        self._doubtful = None  # the next one says anew what it has imported
        self.death_log.server_lost(event.reason, self.clock.now_ms())
        if not self.core.workers.budget.spend(now_s):
            self._halt(Halt("the fork server dies faster than the restart budget allows"))
        elif not self.core.draining:
            self.host.start()

    # -- what Redis says ------------------------------------------------------------------------------------------

    def _stepped(self, event: Stepped, now_s: float) -> None:
        self.pipeline.stepped(event)
        self.core.ahead = self.pipeline.ended_meanwhile
        self.run_logger.stepped(self.pipeline.carried, now_s - event.sent_s)
        self.reconciler.stepped(event, now_s)
        if event.orders or self.mailbox.heard:
            self._take_mail(event.orders, now_s)

    def _take_mail(self, letters: list[bytes], now_s: float) -> None:
        for letter in self.mailbox.new(letters):
            command_queue.obey(letter, self.core, self.host, now_s)
            self.pipeline.ring(mail=True)  # what is said to be heard makes way for what stands behind it

    def _parted(self, event: Parted, now_s: float) -> None:
        self.reconciler.parted(event, now_s)
        self.sizing.parted()

    def _refused(self, event: Refused, now_s: float) -> None:
        self.pipeline.refused(event, now_s)

    def _rung(self, event: Rung, now_s: float) -> None:
        self.pipeline.ring(mail=True)

    def _joined(self, event: Joined, now_s: float) -> None:
        self.reconciler.joined(event, now_s)
        self._say_ready()

    # -- what it says ---------------------------------------------------------------------------------------------

    def _fence(self) -> None:
        log.error("the lease is about to lapse: all runs are ended", extra={"runs": len(self.core.runs)})
        self.core.fence()

    def _report(self, now_s: float) -> bytes:
        return report.encode(self.terms, self.core, started_ms=self.started_ms, now_ms=self.clock.now_ms(),
                             now_s=now_s, failures=self.failures, handlers=len(self.reconciler.handlers),
                             pending=len(self.pipeline.outbox), sizing=self.sizing,
                             death_log=self.death_log, processes=self.host.processes())

    def _say_ready(self) -> None:
        """Once: workers are up, and Redis knows the handlers."""
        if not self._said_ready and self.broker.up and all(
                slot.pid is not None or not slot.counts_toward_size for slot in self.core.slots):
            self._said_ready = True
            self.pipeline.report_soon()
            self.tell_root({"is": "ready", "handlers": [one["name"] for one in self.reconciler.handlers],
                            "failures": self.failures})


def _pause_asked(outcome: bytes) -> float | None:
    """The pause in seconds that a handler's Retry asked for; None for anything else that stands there."""
    try:
        after_s = orjson.loads(outcome)["retry_after"]
    except (ValueError, TypeError, KeyError):
        return None
    return after_s if isinstance(after_s, int | float) and 0 <= after_s <= PAUSE_S_MAX else None
