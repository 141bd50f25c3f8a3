"""The actions that the dispatcher asks for. The pool carries them out, in order."""

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from engine.core.pool.slot import Run
from engine.core.task.limits import Limits
from engine.core.task.outcome import Outcome
from engine.core.task.retry import Verdict


class Preempt(Enum):
    """Whether a pool would suspend running runs for urgent ones. The values are the codes that Redis keeps."""

    NEVER = ""
    WHEN_FULL = "+"  # once it has claimed as much as it asked for
    NOW = "!"  # all its workers are busy: it asks for urgent runs only


class Send(NamedTuple):
    """Put a run on the worker's pipe."""

    slot: int
    run: Run


class Settle(NamedTuple):
    """Tell Redis how a run ended. `outcome` is JSON, or an Outcome to encode, or nothing for a release."""

    run: Run
    verdict: Verdict
    outcome: bytes | Outcome


@dataclass(frozen=True, slots=True)
class Watch:
    """Hold the runs that are sent from now on to these limits, and report with `exceeded` when one is passed."""

    slot: int
    limits: Limits


@dataclass(frozen=True, slots=True)
class Unwatch:
    """The runs that were watched have ended; their worker goes on without limits."""

    slot: int


@dataclass(frozen=True, slots=True)
class Spawn:
    slot: int


@dataclass(frozen=True, slots=True)
class TakeBack:
    """Read the unstarted messages back out of the worker's pipe, and report them with `taken_back`."""

    slot: int


@dataclass(frozen=True, slots=True)
class Suspend:
    """Stop the worker and everything below it, without harm. `run` is the run that is suspended."""

    slot: int
    run: Run


@dataclass(frozen=True, slots=True)
class Resume:
    """Let them go on, and tell the run, if it has not ended, for how many seconds it was suspended."""

    slot: int
    run: Run | None
    suspended_s: float


@dataclass(frozen=True, slots=True)
class Interrupt:
    """Raise an exception inside the handler: SoftTimeout, or TaskInterrupted for a cancel."""

    slot: int
    token: int
    cancel: bool


@dataclass(frozen=True, slots=True)
class Kill:
    """End the worker and everything below it, after taking its stacks."""

    slot: int


@dataclass(frozen=True, slots=True)
class Quit:
    """Ask the worker to exit when it has nothing left."""

    slot: int


@dataclass(frozen=True, slots=True)
class Stopped:
    """A handler is stopped for `pause_s` seconds; to be logged."""

    task_type: str
    pause_s: float
    deaths: int


@dataclass(frozen=True, slots=True)
class Halt:
    """The pool can't go on; its parent decides."""

    reason: str


Action = (Send | Settle | Watch | Unwatch | Spawn | TakeBack | Suspend | Resume | Interrupt | Kill | Quit |
           Stopped | Halt)


def withdraw(actions: list[Action], index: int) -> list[int]:
    """Remove what is asked of the worker in a slot, which is gone. Returns the tokens of runs that were not sent."""
    unsent = [action.run.token for action in actions if type(action) is Send and action.slot == index]
    actions[:] = [action for action in actions
                  if isinstance(action, Settle | Halt | Stopped) or action.slot != index]
    return unsent
