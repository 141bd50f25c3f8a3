"""Keeps what a pool runs and what Redis believes that it runs together.

Duties
1. Make runs of what was claimed or handed over, and set aside what cannot be read.
2. See from each step whether the two beliefs agree; bring them together where they do not, and after each absence.
3. Tell Redis what can be run here: with each change, each minute, and whenever it believes otherwise.
"""

import logging
from collections.abc import Callable
from typing import Any

from engine.adapters.clock import RedisClock
from engine.core.pool.commands import Settle
from engine.core.pool.dispatch import Dispatch
from engine.core.pool.slot import Run
from engine.core.task.lifecycle import Move
from engine.core.task.outcome import Outcome
from engine.core.task.retry import RELEASED, ChargedTo, Verdict
from engine.ports.supervisor_broker import (
    Handed,
    HeldRunsSynced,
    Joined,
    Parted,
    RegistrationRefused,
    Stepped,
    SupervisorBroker,
)
from engine.services.pool.log_throttle import LogThrottle
from engine.services.pool.run_factory import RunFactory, UnknownType
from engine.services.pool.step_pipeline import BEAT_S, StepPipeline

UNREADABLE = Verdict(Move.FAIL, ChargedTo.NOBODY)
NOT_YET = Verdict(Move.RETRY, ChargedTo.NOBODY, pause_s=5.0)  # longer than a run that is being ended takes to end
RENEW_S = 60.0  # what can be run here is told again so often: somebody may have deleted it
RUN_DIGITS_MAX = 15  # what a life line may hold

log = logging.getLogger("ganger.execution")


class LeaseReconciler:
    """`settle` takes the end of a run that never came to the core."""

    def __init__(self, core: Dispatch, run_factory: RunFactory, broker: SupervisorBroker, pipeline: StepPipeline,
                 clock: RedisClock, settle: Callable[[Settle], None]) -> None:
        self.core, self.run_factory, self.broker, self.pipeline = core, run_factory, broker, pipeline
        self.clock, self._settle = clock, settle
        self.handlers: list[dict[str, Any]] = []
        self._syncs = 0  # under way
        self._offset_ms = clock.offset_ms  # of the clock that what waits for Redis was dated by
        self._is_unheard = False  # Redis refused to hear what we run
        self._away, self._unheard = LogThrottle(), LogThrottle()
        self._renew_s = float("-inf")  # when to tell again what can be run here
        self._tell_s = float("-inf")  # not before this: a Redis that is full refuses as fast as it is asked

    def serve(self, handlers: list[dict[str, Any]]) -> None:
        """What can be run here, as the fork server has found it."""
        self.handlers = handlers
        self.run_factory.learn(handlers)
        if self.broker.up:
            self.broker.announce(handlers)

    def _renew(self, event: Stepped, now_s: float) -> None:
        """Tell again what can be run here, if that is due or Redis believes otherwise."""
        is_known = event.types_known == len(self.run_factory.policies)
        if now_s >= self._renew_s or (not is_known and now_s >= self._renew_s - RENEW_S + BEAT_S):
            self._renew_s = now_s + RENEW_S
            self.broker.announce(self.handlers)

    # -- what Redis says ------------------------------------------------------------------------------------------

    def stepped(self, event: Stepped, now_s: float) -> None:
        if event.claimed and self.pipeline.covers(event, now_s):
            self.core.claimed(self._runs(event.claimed), now_s)
        is_agreed = event.held == len(self.core.runs) + self.pipeline.unsettled + len(self._decided())
        if now_s >= self._tell_s and (self._is_unheard or not is_agreed):
            self._clear_up()
        self._renew(event, now_s)

    def joined(self, event: Joined, now_s: float) -> None:
        log.info("connected to Redis")
        self._away.reset()
        self.pipeline.redate(int(self.clock.offset_ms - self._offset_ms))
        self._register()
        self.pipeline.ring(mail=True)

    def parted(self, event: Parted, now_s: float) -> None:
        self.pipeline.parted(event)
        self._syncs = 0
        self._offset_ms = self.clock.offset_ms
        if self._away.should_log(event.reason, now_s):
            log.warning("Redis is away", extra={"reason": event.reason, "outcomes_pending": len(self.pipeline.outbox)})

    def handed(self, event: Handed, now_s: float) -> None:
        """While Redis brings the beliefs together it takes back what we had not heard of, and that includes this. What
        we let pass by shows in the next step: Redis has us hold more than we know of, and it is given back."""
        if not self._syncs and self.pipeline.holds(now_s):
            self.core.claimed(self._runs([event.task_id, event.record, b"1 0 0"]), now_s)

    def held_runs_synced(self, event: HeldRunsSynced, now_s: float) -> None:
        self._syncs -= 1
        for task_id in event.foreign:
            self.core.cancel(task_id, "its lease was lost", now_s)
        self.pipeline.ring(mail=False)

    def registration_refused(self, event: RegistrationRefused, now_s: float) -> None:
        if self._unheard.should_log(event.reason, now_s):
            log.warning("Redis refused to hear of our runs or handlers; they are told again each second",
                        extra={"reason": event.reason})
        self._is_unheard, self._tell_s = True, now_s + BEAT_S
        self._syncs -= event.of_runs

    # -- what it does about it ------------------------------------------------------------------------------------

    def _runs(self, claimed: list[Any]) -> list[Run]:
        """What can be started of what was claimed. An earlier run of ours may not have ended yet: it was taken from us
        while we could not know, and its task has come round to us."""
        runs, make, ours = [], self.run_factory.make, self.core.runs
        for task_id, record, counters in zip(claimed[::3], claimed[1::3], claimed[2::3], strict=True):
            try:
                run = make(task_id, record, counters)
            except ValueError as error:
                self._set_aside(task_id, counters, str(error))
                continue
            except UnknownType as error:
                self._give_back(task_id, counters, error)
                continue
            if task_id in ours:
                self._settle(Settle(run, NOT_YET, b""))
            else:
                runs.append(run)
        return runs

    def _set_aside(self, task_id: bytes, counters: bytes, reason: str) -> None:
        """A task that cannot be read has failed; one of which not even the run is known can only be left alone."""
        log.error("a task cannot be read", extra={"task_id": task_id.decode(errors="replace"), "reason": reason})
        number = counters.partition(b" ")[0]
        if number.isdigit() and len(number) <= RUN_DIGITS_MAX:
            run = self.run_factory.placeholder_run(task_id, int(number))
            self._settle(Settle(run, UNREADABLE, Outcome.unreadable(run.number, reason)))

    def _give_back(self, task_id: bytes, counters: bytes, unknown: UnknownType) -> None:
        """It waits, at nobody's cost, for a pool that can run it."""
        number = int(counters.partition(b" ")[0])
        run = self.run_factory.placeholder_run(task_id, number, f"{unknown.queue} {unknown.task_type}")
        self._settle(Settle(run, RELEASED, b""))

    def _decided(self) -> list[Run]:
        """Runs that the core has ended, and whose ends are not in the outbox yet."""
        return [command.run for command in self.core.commands if type(command) is Settle]

    def _clear_up(self) -> None:
        """With no step under way: what that claims, we could not say that we run."""
        if self.pipeline.is_under_way:
            self.pipeline.is_single = True
        elif self._is_unheard:
            self._register()
        else:
            self._sync_held_runs()

    def _register(self) -> None:
        """Tell Redis what we can run, and what we run."""
        self._is_unheard = False
        self.broker.announce(self.handlers)
        self._sync_held_runs()

    def _sync_held_runs(self) -> None:
        self._syncs += 1
        self.broker.sync_held_runs(self.pipeline.known([*self.core.runs.values(), *self._decided()]))
