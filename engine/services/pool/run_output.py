"""Forwards to Redis what runs report while they go on: progress, log lines, output. Stacks and hooks go to the log."""

import logging
from collections.abc import Mapping

import orjson

from engine.core.pool.dispatch import Dispatch
from engine.core.pool.slot import Phase, Run
from engine.core.worker.frames import NO_RUN
from engine.ports.clock import Clock
from engine.ports.host import Dumped, HookFailed, Logged, Progressed, Spilled
from engine.ports.supervisor_broker import SupervisorBroker
from engine.services.pool.registry import EventHandler, Kind, Part
from engine.services.pool.step_pipeline import StepPipeline
from engine.services.pool.worker_deaths import DeathLog

START_TEXT_CHARS_MAX = 8_192  # of one piece of output of a start hook

log = logging.getLogger("ganger.execution")


class RunOutputForwarder(Part):
    def __init__(self, supervisor: str, core: Dispatch, broker: SupervisorBroker, pipeline: StepPipeline,
                 clock: Clock, deaths: DeathLog) -> None:
        self.deaths = deaths
        self.supervisor, self.core, self.broker, self.pipeline, self.clock = supervisor, core, broker, pipeline, clock

    def handles(self) -> Mapping[Kind, EventHandler]:
        return {Progressed: self.progressed, Logged: self.logged, Spilled: self.spilled, Dumped: self.dumped,
                HookFailed: self.hook_failed}

    def progressed(self, event: Progressed, now_s: float) -> None:
        run = self._running(event.slot)
        if run is not None and run.token == event.token and self.broker.up:
            self.broker.progress(run.task_id, event.body)

    def logged(self, event: Logged, now_s: float) -> None:
        run = self._running(event.slot)
        if run is not None and run.token == event.token:
            self.pipeline.rows.append((run.task_id, event.row))
            self.pipeline.wake(is_due=True)
        elif event.token == NO_RUN and self.core.slots[event.slot].phase is Phase.BOOTING:
            self._log_start_output(event)

    def _log_start_output(self, event: Logged) -> None:
        """What a start hook prints or logs belongs to no task, so it goes to the log of the engine."""
        try:
            row = orjson.loads(event.row)
            facts = {name: row[name] for name in ("stream", "level")} | {"text": row["text"][:START_TEXT_CHARS_MAX]}
        except (ValueError, TypeError, KeyError):  # the user's code can write anything to the worker's pipe
            return
        log.info("output of a start hook", extra={"worker": f"{self.supervisor}/{event.slot}", **facts})

    def spilled(self, event: Spilled, now_s: float) -> None:
        run = self._running(event.slot)
        if run is None:
            return
        text = event.text
        if event.dropped_bytes:
            text += f"… and {event.dropped_bytes} bytes more, dropped"
        row = {"at_ms": self.clock.now_ms(), "run": run.number, "stream": event.stream, "level": None, "text": text}
        self.pipeline.rows.append((run.task_id, orjson.dumps(row)))
        self.pipeline.wake(is_due=True)

    def dumped(self, event: Dumped, now_s: float) -> None:
        """A user has asked for these stacks: log them at any level."""
        log.handle(log.makeRecord(log.name, logging.INFO, __file__, 0, "stacks of a live worker", (), None, extra={
            "worker": f"{self.supervisor}/{event.slot}", "slot": event.slot, "stacks": event.text}))

    def hook_failed(self, event: HookFailed, now_s: float) -> None:
        facts = {"worker": f"{self.supervisor}/{event.slot}", "hook": event.hook or None, "reason": event.message,
                 "traceback": event.traceback}
        if event.at_start:
            log.error("a worker cannot start, and is tried again: a start hook or an import has failed", extra=facts)
            self.deaths.hook_failed(event.hook, event.message)
            self.core.start_failed(event.slot)
        else:
            log.error("an @on_worker_stop has failed", extra=facts)

    def _running(self, slot: int) -> Run | None:
        runs = self.core.slots[slot].runs
        return runs[0] if runs else None
