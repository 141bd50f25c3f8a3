"""The keeper and the pool of an inline engine in one: what they decide is decided by the core's code.

Time stands still unless somebody moves it. Then due tasks are promoted, others expire, and all that
can run runs, each at its moment.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from engine.adapters.process.forkserver.handler_table import LoadedHandler
from engine.adapters.process.worker.outcomes import OutcomeWriter
from engine.config import Settings
from engine.core.pool.ending import CAUSES
from engine.core.task.lifecycle import Move
from engine.core.task.outcome import Cause, Outcome
from engine.core.task.policy import RunPolicy
from engine.core.task.retry import CANCELLED, ChargedTo, Verdict, verdict
from engine.core.task.retry import COMPLETED as RETURNED
from engine.core.worker.frames import COMPLETED
from engine.services.composition import run_policy
from engine.tasks.handler import HandlerSpec
from engine.testing.book import Book, Entry
from engine.testing.clock import FakeClock
from engine.testing.execution import WORKER, Ended, execute


class InlineEngine:
    """Runs tasks in the thread that moves the clock or submits."""

    def __init__(self, settings: Settings, clock: FakeClock, handlers: Mapping[str, HandlerSpec],
                 chance: Callable[[], float], eager: bool) -> None:
        self.book, self.clock, self.eager = Book(), clock, eager
        self.settings, self.handlers, self._chance = settings, handlers, chance
        self._policy = run_policy(settings)
        self._outcomes = OutcomeWriter(WORKER, 0, settings.result_bytes_max)
        self._busy = False

    # -- time -----------------------------------------------------------------------------------------------------

    def advance(self, seconds: float) -> None:
        """Let time pass; whatever becomes due meanwhile happens at its moment."""
        self.advance_to(self.clock.now_ms() + math.ceil(seconds * 1000))

    def advance_to(self, until_ms: int) -> None:
        while (next_ms := self.next_ms()) is not None and next_ms <= until_ms:
            self._set_clock(next_ms)
            self.run_due()
        self._set_clock(until_ms)

    def _set_clock(self, at_ms: int) -> None:
        self.clock.advance(max(0, at_ms - self.clock.now_ms()) / 1000)

    def something_came(self) -> None:
        """A task was queued."""
        if self.eager:
            self.run_due()

    def run_due(self) -> int:
        """Run everything that can run now; return how many runs that took."""
        if self._busy:  # a handler that submits: its task comes after it
            return 0
        self._busy, runs = True, 0
        try:
            self._bring_up_to_date()
            while (entry := self.book.next_queued(self.clock.now_ms(), self.handlers)) is not None:
                self._run(entry)
                runs += 1
                self._bring_up_to_date()
        finally:
            self._busy = False
        return runs

    def next_ms(self) -> int | None:
        now_ms = self.clock.now_ms()
        return min((moment for entry in self.book.all(now_ms) if (moment := entry.next_ms) is not None), default=None)

    def _bring_up_to_date(self) -> None:
        """The keeper's part: expire first, for what is over must not start."""
        now_ms = self.clock.now_ms()
        for entry in self.book.all(now_ms):
            is_due = entry.due_ms is not None and entry.due_ms <= now_ms
            if is_due:  # a retried task expires as it did before its first run
                entry.expires_ms = entry.record.options.get("expires_ms")
            if entry.waits and entry.expires_ms is not None and entry.expires_ms <= now_ms:
                self.end(entry, Move.EXPIRE, Outcome(Cause.EXPIRED, "Expired", "nobody started it before its time "
                                                      "was over", entry.life.run + 1, ended_ms=now_ms))
            elif is_due:
                entry.due_ms = None
                entry.move(Move.PROMOTE, now_ms)

    # -- runs -----------------------------------------------------------------------------------------------------

    def _run(self, entry: Entry) -> None:
        """The pool's part: claim, execute, judge, settle."""
        entry.move(Move.CLAIM, self.clock.now_ms(), run=entry.life.run + 1, owner=WORKER)
        entry.expires_ms = None
        self.book.counters["runs"] += 1
        spec = self.handlers[entry.record.task_type]
        policy = self._policy.with_handler(spec.announcement()).with_options(entry.record.options)
        try:
            ended = execute(entry, LoadedHandler(spec), self._outcomes, self.clock.now_ms, policy.timeout_s)
        except BaseException:
            entry.move(Move.RELEASE, self.clock.now_ms(), owner="-")
            raise
        entry.progress = None
        judgement, outcome = self._judge(entry, policy, ended)
        entry.outcomes.append(outcome)
        paid = {"attempts": entry.life.attempts + 1} if judgement.charged_to is ChargedTo.ATTEMPT else {}
        now_ms = self.clock.now_ms()
        entry.move(judgement.move, now_ms, owner="-", **paid)
        if judgement.move is Move.RETRY:
            entry.due_ms = now_ms + int(judgement.pause_s * 1000)
        else:
            kept_s = policy.result_ttl_s if judgement.move is Move.COMPLETE else policy.failed_ttl_s
            entry.gone_ms = now_ms + int(kept_s * 1000)
            self.book.counters[entry.life.status] += 1

    def _judge(self, entry: Entry, policy: RunPolicy, ended: Ended) -> tuple[Verdict, dict[str, Any]]:
        wall_s, run = ended.outcome["wall_s"], entry.life.run
        if entry.cancelled is not None:  # asked for before it ended: the first decision wins
            end = Outcome.cancelled(run, entry.cancelled, ended_ms=self.clock.now_ms())
            return CANCELLED, _outcome(end)
        if policy.timeout_s and wall_s >= policy.timeout_s:  # it let the clock pass its timeout
            end = Outcome.timed_out(run, policy.timeout_s, ended_ms=self.clock.now_ms(), wall_s=wall_s)
            return self._verdict(entry, policy, Cause.TIMEOUT), _outcome(end)
        if ended.verdict == COMPLETED:
            return RETURNED, ended.outcome
        cause, retryable = CAUSES[ended.verdict]
        return self._verdict(entry, policy, cause, retryable, ended.outcome.get("retry_after")), ended.outcome

    def _verdict(self, entry: Entry, policy: RunPolicy, cause: Cause, retryable: bool = True,
                 after_s: float | None = None) -> Verdict:
        life = entry.life
        return verdict(cause, policy.retry, run=life.run, attempts=life.attempts, crashes=life.crashes,
                       chance=self._chance(), retryable=retryable, after_s=after_s)

    def end(self, entry: Entry, move: Move, outcome: Outcome) -> None:
        """End a task that waits. Raises `MoveRefused`."""
        now_ms = self.clock.now_ms()
        entry.move(move, now_ms)
        entry.due_ms = None
        entry.outcomes.append(_outcome(outcome))
        self.book.counters[entry.life.status] += 1
        entry.gone_ms = now_ms + int(self.settings.failed_ttl_s * 1000)


def _outcome(outcome: Outcome) -> dict[str, Any]:
    return dict(orjson.loads(outcome.encode()))
