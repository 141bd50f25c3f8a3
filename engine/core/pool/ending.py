"""Ends runs: each once, with its verdict and outcome.

Holds every run that the pool owes Redis an end for. A run leaves the books
with the Settle action that ends it, and with nothing else.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import orjson

from engine.core.pool.actions import Action, Settle
from engine.core.pool.slot import Run
from engine.core.task.lifecycle import Move
from engine.core.task.outcome import Cause, Outcome
from engine.core.task.retry import CANCELLED, COMPLETED, RELEASED, ChargedTo, Verdict, verdict
from engine.core.worker import frames

# Of each verdict of a worker on a run that did not complete: its cause, and whether another run could succeed.
CAUSES: Mapping[bytes, tuple[Cause, bool]] = {
    frames.RAISED: (Cause.RAISED, True),
    frames.FAILED: (Cause.RAISED, False),
    frames.RETRY: (Cause.RETRY_ASKED, True),
    frames.CANCEL: (Cause.CANCELLED, False),
    frames.SOFT_TIMEOUT: (Cause.SOFT_TIMEOUT, True),
    frames.INTERRUPTED: (Cause.CANCELLED, False),
}
_SPREAD = 0.1  # so that what was held back does not come all at once
LIMITS = frozenset({Cause.OUT_OF_MEMORY, Cause.CPU_TIME, Cause.PROCESSES})


class Ending:
    def __init__(self, actions: list[Action], chance: Callable[[], float]) -> None:
        self.actions = actions
        self.chance = chance
        self.runs: dict[bytes, Run] = {}  # by task id

    def answered(self, run: Run, code: bytes, outcome: bytes, after_s: float | None) -> None:
        """The worker said how the run ended: `code` is one of `frames.VERDICTS`, `outcome` is JSON.

        `after_s`: the pause in seconds that a handler's Retry asked for.
        """
        if code == frames.COMPLETED:
            self.settle(run, COMPLETED, outcome)
        elif code == frames.UNKNOWN:
            self._given_back(run)
        else:
            cause, retryable = CAUSES[code]
            if code == frames.INTERRUPTED and run.cancelled is not None:
                outcome = _with_message(outcome, run.cancelled)
            self.settle(run, self._judge(run, cause, retryable, after_s), outcome)

    def died(self, run: Run, death: Outcome) -> None:
        """Its worker died under it, and we did not ask for that."""
        if run.cancelled is not None:
            self.cancelled(run, death)
        else:
            self._crashed(run, death)

    def killed(self, run: Run, kill_cause: Cause | None, death: Outcome, limit_message: str = "") -> None:
        """The pool killed its worker.

        `kill_cause`: why, if that was because of this run, else None. `death`: the end of the worker as the end of a
        run. `limit_message`: how the run passed a limit, in words.
        """
        if kill_cause is Cause.TIMEOUT:
            end = death.renamed(Outcome.timed_out(run.number, run.policy.timeout_s, death.remark))
            self.settle(run, self._judge(run, kill_cause), end)
        elif run.cancelled is not None:
            self.cancelled(run, death)
        elif kill_cause in LIMITS:
            self._crashed(run, death.renamed(Outcome.over_limit(run.number, kill_cause, limit_message)))
        elif run.policy.retry.max_deliveries and run.number >= run.policy.retry.max_deliveries:
            message = "ended by the engine, and it may not be started a second time"
            end = replace(death, cause=Cause.LEASE_LOST, kind="LeaseLost", message=message)
            self.settle(run, Verdict(Move.FAIL, ChargedTo.NOBODY), end)
        else:
            self.released(run)

    def cancelled(self, run: Run, death: Outcome | None = None) -> None:
        end = Outcome.cancelled(run.number, run.cancelled or "cancelled")
        self.settle(run, CANCELLED, end if death is None else death.renamed(end))

    def released(self, run: Run) -> None:
        self.settle(run, RELEASED, b"")

    def held_back(self, run: Run, pause_s: float, deaths: int) -> None:
        """The handler is stopped: run again after the pause of `pause_s` seconds. No budget is charged."""
        outcome = Outcome.handler_stopped(run.number, run.task_type, pause_s, deaths)
        self.settle(run, Verdict(Move.RETRY, ChargedTo.NOBODY, pause_s * (1 + _SPREAD * self.chance())), outcome)

    def _given_back(self, run: Run) -> None:
        """The worker has no handler of this type: the task waits for a pool that has. No budget is charged."""
        if run.cancelled is not None:
            self.cancelled(run)
        else:
            self.settle(replace(run, queue=f"{run.queue} {run.task_type}"), RELEASED, b"")

    def settle(self, run: Run, judgement: Verdict, outcome: bytes | Outcome) -> None:
        del self.runs[run.task_id]
        self.actions.append(Settle(run, judgement, outcome))

    def _crashed(self, run: Run, death: Outcome) -> None:
        judgement = self._judge(run, death.cause)
        if judgement.poison:
            cost = "a worker" if run.crashes == 0 else f"{run.crashes + 1} workers"
            death = replace(death, quarantined=True, message=f"{death.message}; quarantined, as it has cost {cost}")
        self.settle(run, judgement, death)

    def _judge(self, run: Run, cause: Cause, retryable: bool = True, after_s: float | None = None) -> Verdict:
        return verdict(cause, run.policy.retry, run=run.number, attempts=run.attempts, crashes=run.crashes,
                       chance=self.chance(), retryable=retryable, after_s=after_s)


def _with_message(outcome: bytes, message: str) -> bytes:
    """The outcome with the reason for the cancel, which the worker does not know."""
    try:
        parsed = orjson.loads(outcome)
        parsed["error"]["message"] = message
    except (ValueError, TypeError, KeyError):  # not written by the engine's worker: shown as unreadable later
        return outcome
    return orjson.dumps(parsed)
