"""A pool's side of Redis: the ends that Redis is to be told, the steps under way, and the lease.

A step is a supervisor's one call of Redis: it settles ends, claims runs, renews the lease and brings commands.

Duties
1. Keep every end of a run until Redis has confirmed it, in bounded number: at the bound nothing more is claimed.
2. Send a step when there is an end to tell, room to fill, or a beat is due; and a second beside it if there is much.
3. Know until when the lease holds, and say when runs must be ended because of it.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from engine.core.pool.actions import Preempt, Settle
from engine.core.pool.lease_fence import FenceMargin
from engine.core.pool.room import Room
from engine.core.pool.slot import Run
from engine.core.task.lifecycle import Move
from engine.core.task.outcome import Outcome
from engine.core.task.retry import Verdict
from engine.ports.clock import Clock
from engine.ports.supervisor_broker import Parted, Refused, Settlement, Stepped, SupervisorBroker, Woken
from engine.services.pool.log_throttle import LogThrottle
from engine.services.pool.pool_terms import PoolTerms
from engine.services.pool.registry import ActionHandler, EventHandler, Kind, Part
from engine.services.pool.run_logger import RunLogger

BEAT_S = 1.0  # at least one step in this time: it renews the lease, and a lost wake-up costs no more
QUIET_BEAT_S = 3.0  # the same for a pool that has no run; submit.lua hands nothing to one that is silent for longer
PACE_S = 0.002  # between steps while the workers are busy: a step costs much the same for one end as for fifty
SET_MS = 1000  # a clock that differs by so much from what it was has been set
UNDER_WAY_MAX = 2  # steps: Redis works on one while we do on the other
LOG_ROWS_MAX = 20_000  # kept while Redis is away; beyond it the oldest go

log = logging.getLogger("ganger.errors")


@dataclass(frozen=True, slots=True)
class InFlightStep:
    """A step under way."""

    want: int
    ends: int
    ended_before: int  # runs, when the step before it was sent
    is_urgent: bool  # it wanted nothing else


class StepPipeline(Part):
    def __init__(self, terms: PoolTerms, broker: SupervisorBroker, clock: Clock, run_logger: RunLogger) -> None:
        self.terms, self.broker, self.clock, self.run_logger = terms, broker, clock, run_logger
        self.margin = FenceMargin(terms.fence_margin_s, terms.lease_s)
        self._was_free = False  # nothing was under way when the turn before ended: it waited for the beat alone
        self.outbox: deque[Settlement] = deque()
        self.rows: deque[tuple[bytes, bytes]] = deque(maxlen=LOG_ROWS_MAX)
        self.is_single = False  # no second step until none is under way
        self.carried = 0  # ends in the step that was answered last
        self.ended_meanwhile = 0  # runs that ended from the sending of the one before to that answer
        self.may_find_work = True  # whatever the last step found
        self.was_woken = True  # since a step wanted anything, even if that was for urgent work only
        self.fenced = False
        self._refusals = LogThrottle()
        self._is_refused = False  # the last step was: whatever there is to tell waits for the next beat
        self._sent_s = float("-inf")
        self._reported_s = float("-inf")
        self._lease_end_s = float("inf")  # before the first lease there is nothing to lose
        self._beat_s = BEAT_S
        self._in_flight: deque[InFlightStep] = deque()
        self._told = 0  # ends sent so far
        self._ended_before = 0  # runs, when the last step was sent

    def handles(self) -> Mapping[Kind, EventHandler]:
        return {Stepped: self.stepped, Refused: self.refused, Parted: self.parted, Woken: self.woken}

    def carries_out(self) -> Mapping[Kind, ActionHandler]:
        return {Settle: self.settle}

    @property
    def is_under_way(self) -> bool:
        """Whether a step is."""
        return bool(self._in_flight)

    @property
    def unsettled(self) -> int:
        """Ends that Redis has not confirmed."""
        return len(self.outbox) + sum(step.ends for step in self._in_flight)

    def next_deadline_s(self) -> float:
        if not self.broker.up or self.is_under_way:  # Redis may be frozen with our step in its hands
            return self._fence_s()
        is_soon = self.outbox and not self._is_refused
        return min(self._fence_s(), self._sent_s + (PACE_S if is_soon else self._beat_s))

    def settle(self, action: Settle) -> None:
        """Tell Redis, with the next step, how a run has ended."""
        run, verdict, outcome = action
        if isinstance(outcome, Outcome):
            outcome = outcome.encode()
        self.run_logger.ended(run, verdict, outcome)
        self.outbox.append(Settlement(run.task_id, run.number, verdict.wire_code, self._at(run, verdict), outcome))

    def _at(self, run: Run, verdict: Verdict) -> int | str:
        """See `Settlement.at`."""
        move = verdict.move
        if move is Move.RELEASE:
            return run.queue
        if move is Move.COMPLETE:
            wait_s = run.policy.result_ttl_s
        else:
            wait_s = verdict.pause_s if move is Move.RETRY else run.policy.failed_ttl_s
        return self.clock.now_ms() + int(wait_s * 1000)

    # -- sending steps --------------------------------------------------------------------------------------------

    def send_step(self, room: Room, runs: int, report: Callable[[], bytes], now_s: float,
                  last_command: bytes = b"") -> None:
        """Send the next step, if there is a reason to. While every worker has enough to do, ends wait for more ends.

        `runs`: how many the dispatcher has. `report`: makes the report of the pool, once in `report_s`.
        `last_command`: the last command that has arrived from Redis.
        """
        was_free, self._was_free = self._was_free, self.broker.up and not self._in_flight
        if not self.broker.up or not self._may_go():
            return
        asked = sum(step.want for step in self._in_flight)
        want = 0 if self.fenced or self.unsettled >= self.terms.outcomes_pending_max else min(
            max(0, room.runs - asked), self.terms.claim_max)
        since_s = now_s - self._sent_s
        is_urgent = room.preempt is Preempt.NOW
        wanted = self.outbox or (want and (self.was_woken if is_urgent else self.may_find_work))
        may_hurry = not self._is_refused and (room.is_urgent or since_s >= PACE_S)
        if not (since_s >= self._beat_s or (wanted and may_hurry)):
            return
        if was_free and self._beat_s <= since_s < float("inf"):
            self.margin.came(since_s - self._beat_s)
        self._was_free = False
        self._flush_rows()
        self.may_find_work, self.was_woken, self._sent_s = False, self.was_woken and not want, now_s
        body = b""
        if now_s >= self._reported_s + self.terms.report_s:
            self._reported_s, body = now_s, report()
        held = runs + self.unsettled + asked
        batch = self._next_batch()
        self._told += len(batch)
        self._in_flight.append(InFlightStep(want, len(batch), self._ended_before, is_urgent))
        self._ended_before = self._told + len(self.outbox)
        preempt = room.preempt if want or is_urgent else Preempt.NEVER
        idle_workers = room.idle_workers if want else None if asked else 0  # what the step before has asked for stands
        self.broker.step(batch, want, idle_workers, held, body, preempt, last_command)

    def _may_go(self) -> bool:
        """One after the other, unless there is much to tell: half of what a step can carry."""
        if not self._in_flight:
            self.is_single = False
            return True
        is_much = 2 * len(self.outbox) >= self.terms.settle_max
        return is_much and len(self._in_flight) < UNDER_WAY_MAX and not self.is_single

    # -- what Redis answers ---------------------------------------------------------------------------------------

    def stepped(self, event: Stepped, now_s: float) -> None:
        """A step was carried out."""
        step = self._in_flight.popleft()
        self.carried = step.ends
        self.ended_meanwhile = self._told + len(self.outbox) - step.ended_before
        self.fenced = self._is_refused = False
        self.run_logger.stepped(step.ends, now_s - event.sent_s)
        self._lease_end_s = event.sent_s + self.terms.lease_s
        self.may_find_work = self.may_find_work or event.granted_all
        self._beat_s = BEAT_S if event.held else QUIET_BEAT_S
        self.was_woken = self.was_woken or (step.is_urgent and event.granted_all)
        for settlement, word in event.refused:
            task_id = settlement.task_id.decode(errors="replace")
            log.warning("Redis refused the end of a run",
                        extra={"task_id": task_id, "run": settlement.run, "word": word})

    def refused(self, event: Refused, now_s: float) -> None:
        """Redis is full, read-only or loading: keep what there is, and ask again with the next beat."""
        self._in_flight.popleft()
        self._sent_s, self._beat_s, self._is_refused = now_s, BEAT_S, True
        self._take_back(event.unsettled)
        self.may_find_work = self.was_woken = True
        if self._refusals.should_log(event.reason, now_s):
            log.error("Redis refuses steps; it is asked again each second",
                      extra={"reason": event.reason, "outcomes_pending": len(self.outbox)})

    def parted(self, event: Parted, now_s: float) -> None:
        """Redis is away. Steps under way may have happened or not; telling the ends again does no harm."""
        self._in_flight.clear()
        self._is_refused = False
        self._take_back(event.unsettled)

    def redate(self, by_ms: int) -> None:
        """Redis's clock has been set while ends were waiting for it: a retry is due after a pause, not at a moment."""
        if abs(by_ms) >= SET_MS:
            self.outbox = deque(end._replace(at=end.at + by_ms) if isinstance(end.at, int) else end
                                for end in self.outbox)

    # -- when the next step is due --------------------------------------------------------------------------------

    def woken(self, event: Woken, now_s: float) -> None:
        self.wake(is_due=True)

    def wake(self, *, is_due: bool) -> None:
        """There may be work. `is_due`: send a step even where there is no room for it."""
        self.may_find_work = self.was_woken = True
        if is_due and not self._is_refused:
            self._sent_s = float("-inf")

    def report_soon(self) -> None:
        """Have the next step carry a report, and be due."""
        self._reported_s = self._sent_s = float("-inf")

    # -- the lease ------------------------------------------------------------------------------------------------

    def must_fence(self, now_s: float) -> bool:
        """Whether the lease is so near its end that runs must be ended; once for each time."""
        if self.fenced or not self.terms.fences or now_s < self._fence_s():
            return False
        self.fenced = True
        return True

    def holds(self, now_s: float) -> bool:
        """Whether a task that was handed over with a wakeup may be started: the lease still holds with its margin."""
        return not self.fenced and now_s < self._lease_end_s - self.margin.seconds

    def lease_is_over(self, now_s: float) -> bool:
        """Whether other supervisors may be given our runs: always, before there was a lease."""
        return now_s >= self._lease_end_s or self._lease_end_s == float("inf")

    def covers(self, event: Stepped, now_s: float) -> bool:
        """Whether the lease of this step still holds with its margin: only then may the runs it claimed be started.

        Without this, a supervisor that slept through its lease would start runs that others have been given meanwhile.
        """
        return now_s < event.sent_s + self.terms.lease_s - self.margin.seconds

    def known(self, runs: Iterable[Run]) -> list[tuple[bytes, int]]:
        """Every run that is ours or whose end is not confirmed: id and number."""
        return [(run.task_id, run.number) for run in runs] + [
            (settlement.task_id, settlement.run) for settlement in self.outbox]

    def _fence_s(self) -> float:
        if self.fenced or not self.terms.fences:
            return float("inf")
        return self._lease_end_s - self.margin.seconds

    def _next_batch(self) -> list[Settlement]:
        """What one step may carry: bounded in number and, past the first, in bytes."""
        outbox, batch, size = self.outbox, list[Settlement](), 0
        while outbox and len(batch) < self.terms.settle_max:
            size += len(outbox[0].outcome)
            if batch and size > self.terms.settle_bytes_max:
                break
            batch.append(outbox.popleft())
        return batch

    def _take_back(self, unsettled: list[Settlement]) -> None:
        self._told -= len(unsettled)
        self.outbox.extendleft(reversed(unsettled))

    def _flush_rows(self) -> None:
        by_task: dict[bytes, list[bytes]] = {}
        while self.rows:
            task_id, row = self.rows.popleft()
            by_task.setdefault(task_id, []).append(row)
        for task_id, rows in by_task.items():
            self.broker.log(task_id, rows)
