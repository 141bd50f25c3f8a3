"""A pool's side of its workers: carries out what the dispatcher asks of them, and tells it what they report."""

import logging
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from engine.core.pool.actions import (
    Interrupt,
    Kill,
    Quit,
    Resume,
    Send,
    Spawn,
    Stopped,
    Suspend,
    TakeBack,
    Unwatch,
    Watch,
)
from engine.core.pool.dispatch import Dispatch
from engine.core.pool.slot import Run
from engine.core.task.outcome import Outcome
from engine.core.task.retry import PAUSE_S_MAX
from engine.core.worker import frames
from engine.ports.clock import Clock
from engine.ports.host import Booted, Exceeded, Exited, Grown, Host, Replied
from engine.services.pool import worker_deaths
from engine.services.pool.fork_server_monitor import ForkServerMonitor
from engine.services.pool.registry import ActionHandler, EventHandler, Kind, Part
from engine.services.pool.step_pipeline import StepPipeline

log = logging.getLogger("ganger.execution")


class WorkerControl(Part):
    def __init__(self, supervisor: str, core: Dispatch, host: Host, clock: Clock, pipeline: StepPipeline,
                 fork_server: ForkServerMonitor, deaths: worker_deaths.DeathLog,
                 monotonic_s: Callable[[], float]) -> None:
        self.supervisor, self.core, self.host, self.clock = supervisor, core, host, clock
        self.pipeline, self.fork_server, self.deaths = pipeline, fork_server, deaths
        self.monotonic_s = monotonic_s

    def handles(self) -> Mapping[Kind, EventHandler]:
        return {Replied: self.replied, Booted: self.booted, Exited: self.exited, Exceeded: self.exceeded,
                Grown: self.grown}

    def carries_out(self) -> Mapping[Kind, ActionHandler]:
        host = self.host
        return {
            Send: self.send, TakeBack: self.take_back, Kill: self.kill, Suspend: self.suspend, Resume: self.resume,
            Interrupt: self.interrupt, Stopped: self.stopped,
            Spawn: lambda action: host.spawn(action.slot), Quit: lambda action: host.quit(action.slot),
            Watch: lambda action: host.watch(action.slot, action.limits),
            Unwatch: lambda action: host.unwatch(action.slot),
        }

    # -- what the dispatcher asks for -----------------------------------------------------------------------------

    def send(self, action: Send) -> None:
        run = action.run
        self.host.send(action.slot, frames.task(run.token, run.number, run.attempts, self.clock.offset_ms,
                                                 run.task_id, run.record))

    def take_back(self, action: TakeBack) -> None:
        tokens = [frames.token_of(message) for message in self.host.take_back(action.slot)]
        self.core.taken_back(action.slot, tokens, self.monotonic_s())

    def kill(self, action: Kill) -> None:
        self.host.kill(action.slot, self.core.slots[action.slot].kill_cause or "stopped")

    def interrupt(self, action: Interrupt) -> None:
        self.host.interrupt(action.slot, action.token,
                            frames.INTERRUPT_CANCEL if action.cancel else frames.INTERRUPT_SOFT_TIMEOUT)

    def suspend(self, action: Suspend) -> None:
        self.host.suspend(action.slot)
        log.info("a run is suspended for an urgent one", extra=self._facts(action.slot, action.run))

    def resume(self, action: Resume) -> None:
        run = action.run
        self.host.resume(action.slot, None if run is None else run.token, action.suspended_s)
        if run is not None:
            log.info("a suspended run is resumed", extra={
                **self._facts(action.slot, run), "suspended_s": round(action.suspended_s, 6)})

    def stopped(self, action: Stopped) -> None:
        log.error("a handler keeps costing workers, and is stopped for a while", extra={
            "task_type": action.task_type, "pause_s": action.pause_s, "deaths": action.deaths})
        self.pipeline.report_soon()

    # -- what the workers report ----------------------------------------------------------------------------------

    def replied(self, event: Replied, now_s: float) -> None:
        slot, token, verdict, wall_us, outcome = event
        after_s = None
        if verdict != frames.COMPLETED:
            if verdict not in frames.VERDICTS:
                self.host.kill(slot, f"it does not speak our language: a verdict of {verdict!r}")
                return
            after_s = _pause_asked(outcome) if verdict == frames.RETRY else None
        self.core.replied(slot, token, verdict, wall_us / 1e6, outcome, now_s, after_s)

    def booted(self, event: Booted, now_s: float) -> None:
        self.deaths.worker_started()
        self.core.booted(event.slot, event.pid, now_s)
        self.pipeline.wake(is_due=False)

    def exited(self, event: Exited, now_s: float) -> None:
        unread = [frames.token_of(message) for message in event.unread]
        slot = self.core.slots[event.slot]
        worker = f"{self.supervisor}/{event.slot}"
        wall_s, suspended_s, since_s = slot.running_s(now_s), slot.suspended_s(now_s), slot.since_s
        log.info("a worker has ended", extra={"worker": worker, "pid": event.pid, "exit_code": event.exitcode,
                                              "signal": event.signal})
        if slot.boot_timed_out:
            stacks = (event.post_mortem or {}).get("stacks")
            log.error("a worker has not started in time (boot_timeout_s)", extra={
                "worker": worker, "stacks": stacks or None})
        if event.refused:
            self.core.start_failed(event.slot)
        else:
            self.deaths.worker_ended(slot, event, self.clock.now_ms())

        def death(run: Run) -> Outcome:
            return worker_deaths.outcome(
                run, event, worker=worker, wall_s=wall_s, suspended_s=suspended_s, since_s=since_s,
                now_ms=self.clock.now_ms(), inherited=self.fork_server.inherited)

        self.core.exited(event.slot, death, unread, now_s, stranded=event.stranded)

    def exceeded(self, event: Exceeded, now_s: float) -> None:
        self.core.exceeded(event.slot, event.limits, event.cause, event.message)

    def grown(self, event: Grown, now_s: float) -> None:
        log.info("a worker has grown, and is replaced", extra={
            "worker": f"{self.supervisor}/{event.slot}", "grown_bytes": event.bytes})
        self.core.replace(event.slot, now_s)

    def _facts(self, slot: int, run: Run) -> dict[str, Any]:
        return {"worker": f"{self.supervisor}/{slot}", "task_id": run.task_id.decode(),
                "task_type": run.task_type, "run": run.number}


def _pause_asked(outcome: bytes) -> float | None:
    """The pause in seconds that a handler's Retry asked for; None for any other value."""
    try:
        after_s = orjson.loads(outcome)["retry_after"]
    except (ValueError, TypeError, KeyError):
        return None
    return after_s if isinstance(after_s, int | float) and 0 <= after_s <= PAUSE_S_MAX else None
