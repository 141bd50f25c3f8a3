"""What becomes of a run whose supervisor fell silent: nobody knows how far it came, and nobody is to blame.

So it is run again at its old place, unless the task says that it must not be,
or it has happened to this task too often: then the task may well be what
silences supervisors, and is set aside.
"""

from dataclasses import dataclass

from engine.core.task.lifecycle import Move
from engine.core.task.outcome import Cause, Outcome

RESCUES_MAX = 20  # of one task, unless a setting says otherwise; the next loss sets it aside


@dataclass(frozen=True, slots=True)
class LostRunDecision:
    move: Move
    outcome: Outcome  # of the lost run


def of_unreadable(run: int, reason: str) -> LostRunDecision:
    """Decide on a run that was lost with its supervisor, and whose record nobody can read any more."""
    return LostRunDecision(Move.FAIL, Outcome.unreadable(run, reason))


def of_lost_run(run: int, supervisor: str, *, rescues: int, max_deliveries: int | None, cancel_reason: str | None,
                now_ms: int, rescues_max: int = RESCUES_MAX) -> LostRunDecision:
    """Decide on a run that was lost with its supervisor.

    `rescues`: how many of the task's runs were lost and run again before this. `cancel_reason`: why it was to be
    cancelled, if the supervisor had been told so. `max_deliveries`: how often it may be started when it is not known
    how the last start ended. `rescues_max`: how often it is run again after such a loss.
    """
    if cancel_reason is not None:
        return LostRunDecision(Move.CANCEL, Outcome.cancelled(run, cancel_reason, ended_ms=now_ms, worker=supervisor))
    lost = f"its supervisor {supervisor} fell silent"
    if max_deliveries is not None and run >= max_deliveries:
        return LostRunDecision(Move.FAIL, Outcome(
            Cause.LEASE_LOST, "LeaseLost", f"{lost}, and it must not be started more than {max_deliveries} times",
            run, ended_ms=now_ms, worker=supervisor))
    if rescues >= rescues_max:
        return LostRunDecision(Move.FAIL, Outcome(
            Cause.POISON, "Poison", f"{lost}, as did {rescues} before that ran it", run, ended_ms=now_ms,
            worker=supervisor, quarantined=True))
    return LostRunDecision(Move.RELEASE, Outcome(
        Cause.LEASE_LOST, "LeaseLost", f"{lost}; it is run again", run, ended_ms=now_ms, worker=supervisor))
