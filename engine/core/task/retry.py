"""Decides what follows the end of a run: another run, and when, or the end of the task.

Attempts and crashes are counted apart. A handler's own failure spends a
retry; a dead worker spends the crash budget; what we did ourselves (a
release, a cancel) is charged to nobody.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from engine.core.task.lifecycle import Move
from engine.core.task.outcome import Cause

PAUSE_S_MAX = 3_155_760_000.0  # that a handler may ask for: a hundred years, as for every option in seconds


class ChargedTo(StrEnum):
    """Whose budget a run that ended is charged to."""

    ATTEMPT = "attempt"
    CRASH = "crash"
    NOBODY = "nobody"


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how patiently a task is run again.

    `max_retries`: runs after the first that the handler's own failures may cost.
    `backoff_s`, `factor`, `backoff_s_max`: the pause before retry n is backoff_s * factor ** (n - 1), capped.
    `jitter`: the part of the pause that is left to chance, 0 to 1, so that tasks that failed together come back apart.
    `max_crashes`: the crash with which the task is set aside as poison.
    `max_deliveries`: runs that may ever be started; 0 is no limit, 1 is "at most once".
    """

    max_retries: int = 3
    backoff_s: float = 1.0
    factor: float = 2.0
    backoff_s_max: float = 600.0
    jitter: float = 0.1
    max_crashes: int = 3
    max_deliveries: int = 0
    retry_on_timeout: bool = False

    def pause_s(self, retry: int, chance: float) -> float:
        """Seconds before retry number `retry` (1 is the first); `chance` is a random number in [0, 1)."""
        try:
            pause = self.backoff_s * float(self.factor) ** (retry - 1)
        except OverflowError:
            pause = self.backoff_s_max
        return min(pause, self.backoff_s_max) * (1 - self.jitter * chance)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of the task: the move to settle with, who pays, and the pause before another run in seconds."""

    move: Move
    charged_to: ChargedTo
    pause_s: float = 0.0
    poison: bool = False
    wire_code: str = field(init=False, compare=False)  # as Redis reads it: "move budget"

    def __post_init__(self) -> None:
        object.__setattr__(self, "wire_code", f"{self.move} {self.charged_to}")


COMPLETED = Verdict(Move.COMPLETE, ChargedTo.NOBODY)
RELEASED = Verdict(Move.RELEASE, ChargedTo.NOBODY)
CANCELLED = Verdict(Move.CANCEL, ChargedTo.NOBODY)

_CRASHES = frozenset({Cause.KILLED, Cause.EXITED, Cause.OUT_OF_MEMORY})
_TIMEOUTS = frozenset({Cause.TIMEOUT, Cause.SOFT_TIMEOUT, Cause.CPU_TIME})


def verdict(
    cause: Cause,
    policy: RetryPolicy,
    *,
    run: int,
    attempts: int,
    crashes: int,
    chance: float,
    retryable: bool = True,
    after_s: float | None = None,
) -> Verdict:
    """Judge one ended run.

    `run` is its number; `attempts` and `crashes` are the counts before it; `retryable` is false for an error that
    no further run can put right; `after_s` is the pause a handler asked for with `Retry(after=…)`.
    """
    may_rerun = not policy.max_deliveries or run < policy.max_deliveries
    if cause is Cause.RETURNED:
        return COMPLETED
    if cause is Cause.CANCELLED:
        return CANCELLED
    if cause in _CRASHES:
        poison = crashes + 1 >= policy.max_crashes
        if poison or not may_rerun:
            return Verdict(Move.FAIL, ChargedTo.CRASH, poison=poison)
        return Verdict(Move.RETRY, ChargedTo.CRASH, policy.pause_s(crashes + 1, chance))
    timed_out = cause in _TIMEOUTS
    retryable = retryable and (not timed_out or policy.retry_on_timeout)
    if retryable and may_rerun and attempts < policy.max_retries:
        pause = policy.pause_s(attempts + 1, chance) if after_s is None else after_s
        return Verdict(Move.RETRY, ChargedTo.ATTEMPT, pause)
    return Verdict(Move.TIME_OUT if timed_out else Move.FAIL, ChargedTo.ATTEMPT)
