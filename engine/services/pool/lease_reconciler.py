"""Keeps the runs that a pool has and the runs that Redis lists as held by it in agreement.

Duties
1. Make runs of the tasks that were claimed or handed over, and fail those that cannot be read.
2. Compare the two with each step. Sync them where they differ, and after each absence of Redis.
3. Register the types that can be run here: with each change, each minute, and whenever Redis knows fewer.
"""

import logging
from collections.abc import Mapping
from typing import Any

from engine.core.pool.actions import Settle
from engine.core.pool.dispatch import Dispatch
from engine.core.pool.slot import Run
from engine.core.task.lifecycle import Move
from engine.core.task.outcome import Outcome
from engine.core.task.retry import RELEASED, ChargedTo, Verdict
from engine.ports.clock import Clock
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
from engine.services.pool.registry import EventHandler, Kind, Part
from engine.services.pool.run_factory import RunFactory, UnknownType
from engine.services.pool.step_pipeline import BEAT_S, StepPipeline

UNREADABLE = Verdict(Move.FAIL, ChargedTo.NOBODY)
NOT_YET = Verdict(Move.RETRY, ChargedTo.NOBODY, pause_s=5.0)  # longer than a run that is being ended takes to end
RENEW_S = 60.0  # the types are registered again so often: they may have been deleted
RUN_DIGITS_MAX = 15  # that a task's state may hold

log = logging.getLogger("ganger.execution")


class LeaseReconciler(Part):
    def __init__(self, core: Dispatch, run_factory: RunFactory, broker: SupervisorBroker, pipeline: StepPipeline,
                 clock: Clock) -> None:
        self.core, self.run_factory, self.broker, self.pipeline = core, run_factory, broker, pipeline
        self.clock = clock
        self.handlers: list[dict[str, Any]] = []
        self._syncs = 0  # under way
        self._offset_ms = clock.offset_ms  # of the clock by which the ends in the outbox were dated
        self._is_refused = False  # Redis refused to register our types or to sync our runs
        self._absences, self._refusals = LogThrottle(), LogThrottle()
        self._renew_s = float("-inf")  # when to register the types again
        self._retry_s = float("-inf")  # not before this: a Redis that is full refuses as fast as it is asked

    def handles(self) -> Mapping[Kind, EventHandler]:
        return {Stepped: self.stepped, Joined: self.joined, Parted: self.parted, Handed: self.handed,
                HeldRunsSynced: self.held_runs_synced, RegistrationRefused: self.registration_refused}

    def serve(self, handlers: list[dict[str, Any]]) -> None:
        """Run these handlers from now on. `handlers` are announcements of the fork server."""
        self.handlers = handlers
        self.run_factory.learn(handlers)
        if self.broker.up:
            self.broker.register(handlers)

    def _renew(self, event: Stepped, now_s: float) -> None:
        """Register the types again, if that is due or Redis does not know all of them."""
        is_known = event.types_known == len(self.run_factory.policies)
        if now_s >= self._renew_s or (not is_known and now_s >= self._renew_s - RENEW_S + BEAT_S):
            self._renew_s = now_s + RENEW_S
            self.broker.register(self.handlers)

    # -- what Redis says ------------------------------------------------------------------------------------------

    def stepped(self, event: Stepped, now_s: float) -> None:
        """A step was carried out: take its runs over, and compare what is held."""
        self.core.ahead = self.pipeline.ended_meanwhile
        if event.claimed and self.pipeline.covers(event, now_s):
            self.core.claimed(self._runs(event.claimed), now_s)
        is_agreed = event.held == len(self.core.runs) + self.pipeline.unsettled + len(self._decided())
        if now_s >= self._retry_s and (self._is_refused or not is_agreed):
            self._reconcile()
        self._renew(event, now_s)

    def joined(self, event: Joined, now_s: float) -> None:
        log.info("connected to Redis")
        self._absences.reset()
        self.pipeline.redate(int(self.clock.offset_ms - self._offset_ms))
        self._register()
        self.pipeline.wake(is_due=True)

    def parted(self, event: Parted, now_s: float) -> None:
        self._syncs = 0
        self._offset_ms = self.clock.offset_ms
        if self._absences.should_log(event.reason, now_s):
            log.warning("Redis is away", extra={"reason": event.reason, "outcomes_pending": len(self.pipeline.outbox)})

    def handed(self, event: Handed, now_s: float) -> None:
        """A task came with a wakeup, already claimed for us.

        Ignore it while held runs are being synced: Redis takes back the runs that we did not name, and this is one. An
        ignored run shows in the next step, since Redis lists more than we have, and is given back then.
        """
        if not self._syncs and self.pipeline.holds(now_s):
            self.core.claimed(self._runs([event.task_id, event.record, b"1 0 0"]), now_s)

    def held_runs_synced(self, event: HeldRunsSynced, now_s: float) -> None:
        self._syncs -= 1
        for task_id in event.foreign:
            self.core.cancel(task_id, "its lease was lost", now_s)
        self.pipeline.wake(is_due=False)

    def registration_refused(self, event: RegistrationRefused, now_s: float) -> None:
        if self._refusals.should_log(event.reason, now_s):
            log.warning("Redis refused to hear of our runs or handlers; they are told again each second",
                        extra={"reason": event.reason})
        self._is_refused, self._retry_s = True, now_s + BEAT_S
        self._syncs -= event.of_runs

    # -- what it does about it ------------------------------------------------------------------------------------

    def _runs(self, claimed: list[Any]) -> list[Run]:
        """The claimed runs that can be started; the others are settled.

        An earlier run of the same task may not have ended here yet: it was taken from us while Redis was away, and its
        task has come back to us. `claimed` is as in `Stepped`.
        """
        runs, make, ours = [], self.run_factory.make, self.core.runs
        for task_id, record, counters in zip(claimed[::3], claimed[1::3], claimed[2::3], strict=True):
            try:
                run = make(task_id, record, counters)
            except ValueError as error:
                self._fail_unreadable(task_id, counters, str(error))
                continue
            except UnknownType as error:
                self._give_back(task_id, counters, error)
                continue
            if task_id in ours:
                self.pipeline.settle(Settle(run, NOT_YET, b""))
            else:
                runs.append(run)
        return runs

    def _fail_unreadable(self, task_id: bytes, counters: bytes, reason: str) -> None:
        """Fail a task whose record cannot be read. If not even its run is known, it can only be left alone."""
        log.error("a task cannot be read", extra={"task_id": task_id.decode(errors="replace"), "reason": reason})
        number = counters.partition(b" ")[0]
        if number.isdigit() and len(number) <= RUN_DIGITS_MAX:
            run = self.run_factory.placeholder_run(task_id, int(number))
            self.pipeline.settle(Settle(run, UNREADABLE, Outcome.unreadable(run.number, reason)))

    def _give_back(self, task_id: bytes, counters: bytes, unknown: UnknownType) -> None:
        """Give a task back that cannot be run here: it waits for a pool that can, and no budget is charged."""
        number = int(counters.partition(b" ")[0])
        run = self.run_factory.placeholder_run(task_id, number, f"{unknown.queue} {unknown.task_type}")
        self.pipeline.settle(Settle(run, RELEASED, b""))

    def _decided(self) -> list[Run]:
        """Runs that the dispatcher has ended, and whose ends are not in the outbox yet."""
        return [action.run for action in self.core.actions if type(action) is Settle]

    def _reconcile(self) -> None:
        """Sync while no step is under way: the runs that it claims could not be named yet."""
        if self.pipeline.is_under_way:
            self.pipeline.is_single = True
        elif self._is_refused:
            self._register()
        else:
            self._sync_held_runs()

    def _register(self) -> None:
        """Tell Redis which types we can run, and which runs we have."""
        self._is_refused = False
        self.broker.register(self.handlers)
        self._sync_held_runs()

    def _sync_held_runs(self) -> None:
        self._syncs += 1
        self.broker.sync_held_runs(self.pipeline.known([*self.core.runs.values(), *self._decided()]))
