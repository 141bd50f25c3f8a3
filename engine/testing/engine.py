"""The keeper and the pool of an inline engine, on the reference model.

The clock stands still unless somebody moves it. While it moves, tasks become due, expire and run, each at its moment.
"""

import math
from collections.abc import Callable, Mapping

import orjson

from engine.adapters.process.forkserver.handler_table import LoadedHandler
from engine.adapters.process.worker.outcomes import OutcomeWriter
from engine.config import Settings
from engine.core.pool.ending import CAUSES
from engine.core.task import stored_json
from engine.core.task.lifecycle import Move
from engine.core.task.outcome import Cause, Outcome
from engine.core.task.policy import RunPolicy
from engine.core.task.retry import CANCELLED, RELEASED, Verdict, verdict
from engine.core.task.retry import COMPLETED as RETURNED
from engine.core.worker.frames import COMPLETED
from engine.services.composition import run_policy
from engine.tasks.handler_spec import HandlerSpec
from engine.testing.clock import FakeClock
from engine.testing.execution import WORKER, RunReply, execute
from engine.testing.model import ReferenceModel
from engine.testing.model.store import ModelTask
from engine.testing.model.supervisor import RunEnd


class InlineEngine:
    """Runs tasks in the thread that moves the clock or submits."""

    def __init__(self, settings: Settings, clock: FakeClock, handlers: Mapping[str, HandlerSpec],
                 chance: Callable[[], float], eager: bool) -> None:
        self.model = ReferenceModel(failed_ttl_ms=int(settings.failed_ttl_s * 1000),
                                    idempotency_ttl_ms=int(settings.idempotency_ttl_s * 1000))
        self.clock, self.eager = clock, eager
        self.settings, self.handlers, self._chance = settings, handlers, chance
        self._policy = run_policy(settings)
        self._outcomes = OutcomeWriter(WORKER, 0, settings.result_bytes_max)
        self._busy = False

    # -- time -----------------------------------------------------------------------------------------------------

    def advance(self, seconds: float) -> None:
        """Move the clock; tasks that become due or expire meanwhile do so at their moment."""
        self.advance_to(self.clock.now_ms() + math.ceil(seconds * 1000))

    def advance_to(self, until_ms: int) -> None:
        while (next_ms := self.next_ms()) is not None and next_ms <= until_ms:
            self._set_clock(next_ms)
            self.run_due()
        self._set_clock(until_ms)

    def _set_clock(self, at_ms: int) -> None:
        self.clock.advance(max(0, at_ms - self.clock.now_ms()) / 1000)

    def run_if_eager(self) -> None:
        """Run everything that can run now, unless the test asked to do that itself."""
        if self.eager:
            self.run_due()

    def run_due(self) -> int:
        """Run everything that can run now; return how many runs that took."""
        if self._busy:  # a handler submits: its task runs after it
            return 0
        self._busy, runs = True, 0
        try:
            while (task := self._claim()) is not None:
                self._run(task)
                runs += 1
        finally:
            self._busy = False
        return runs

    def next_ms(self) -> int | None:
        """The next moment at which a task becomes due or expires; None if there is none."""
        return self.model.keeper.next_ms()

    # -- the keeper's part ----------------------------------------------------------------------------------------

    def _bring_up_to_date(self) -> None:
        keeper, now_ms = self.model.keeper, self.clock.now_ms()
        keeper.expire(now_ms)
        keeper.promote(now_ms)
        keeper.reapply_cancel_requests(now_ms)
        keeper.remove(now_ms)

    # -- the pool's part ------------------------------------------------------------------------------------------

    def _claim(self) -> ModelTask | None:
        self._bring_up_to_date()
        supervisor, now_ms = self.model.supervisor, self.clock.now_ms()
        supervisor.register(WORKER, self.handlers)  # a test may have registered another one
        started = supervisor.start(WORKER, supervisor.choose(WORKER, 1, now_ms), now_ms)
        return started[0] if started else None

    def _run(self, task: ModelTask) -> None:
        """Execute, judge, settle."""
        spec = self.handlers[task.record.task_type]
        policy = self._policy.with_handler(spec.announcement()).with_options(task.record.options)
        try:
            reply = execute(task, LoadedHandler(spec), self._outcomes, self.clock.now_ms)
        except BaseException:
            self._settle(task, policy, RELEASED, b"")
            raise
        self._settle(task, policy, *self._judge(task, policy, reply))

    def _settle(self, task: ModelTask, policy: RunPolicy, judgement: Verdict, outcome: bytes) -> None:
        after_s = judgement.pause_s if judgement.move is Move.RETRY else policy.failed_ttl_s
        if judgement.move is Move.COMPLETE:
            after_s = policy.result_ttl_s
        now_ms = self.clock.now_ms()
        end = RunEnd(task.id, task.state.run, judgement.wire_code, now_ms + int(after_s * 1000), outcome)
        refused = self.model.supervisor.settle(WORKER, end, now_ms)
        assert not refused, refused
        self.model.store.supervisor(WORKER).commands.clear()

    def _judge(self, task: ModelTask, policy: RunPolicy, reply: RunReply) -> tuple[Verdict, bytes]:
        run, told = task.state.run, orjson.loads(reply.outcome)
        reason = self._cancel_reason(task)
        if reason is not None:  # asked for before the run ended: the first decision wins
            return CANCELLED, Outcome.cancelled(run, reason, ended_ms=self.clock.now_ms()).encode()
        if policy.timeout_s and told["wall_s"] >= policy.timeout_s:  # it moved the clock past its timeout
            end = Outcome.timed_out(run, policy.timeout_s, ended_ms=self.clock.now_ms(), wall_s=told["wall_s"])
            return self._verdict(task, policy, Cause.TIMEOUT), end.encode()
        if reply.verdict == COMPLETED:
            return RETURNED, reply.outcome
        cause, retryable = CAUSES[reply.verdict]
        return self._verdict(task, policy, cause, retryable, told.get("retry_after")), reply.outcome

    def _cancel_reason(self, task: ModelTask) -> str | None:
        """Why the run is to be cancelled, as the first command of that kind says: by the handler, or what it calls."""
        commands = map(stored_json.cancel_command, self.model.store.supervisor(WORKER).commands)
        return next((command.reason for command in commands
                     if command is not None and (command.task_id, command.run) == (task.id, task.state.run)), None)

    def _verdict(self, task: ModelTask, policy: RunPolicy, cause: Cause, retryable: bool = True,
                 after_s: float | None = None) -> Verdict:
        state = task.state
        return verdict(cause, policy.retry, run=state.run, attempts=state.attempts, crashes=state.crashes,
                       chance=self._chance(), retryable=retryable, after_s=after_s)
