"""When to look at each slot again, and what is done to a run whose time has come: interrupt it softly, then kill it."""

from dataclasses import dataclass

from engine.core.pool.actions import Action, Interrupt, Kill, TakeBack
from engine.core.pool.slot import NEVER, Phase, Slot
from engine.core.pool.window import PATIENCE_S
from engine.core.task.outcome import Cause


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds: to boot, from a soft interrupt for a cancel to the kill, and for a worker told to quit."""

    boot_s: float = 30.0
    cancel_grace_s: float = 2.0
    quit_s: float = 5.0


class Deadlines:
    """Works on the slots of a dispatcher. No deadline of any slot is earlier than `alarm_s`."""

    def __init__(self, actions: list[Action], timing: Timing) -> None:
        self.actions, self.timing = actions, timing
        self.alarm_s = NEVER

    def set(self, slot: Slot, deadline_s: float) -> None:
        slot.deadline_s = deadline_s
        if deadline_s < self.alarm_s:
            self.alarm_s = deadline_s

    def begin(self, slot: Slot, now_s: float) -> None:
        """The first run of the slot starts now."""
        slot.since_s = now_s
        if slot.runs[0].cancelled is not None:  # asked for while it waited, and it could not be taken back
            self.interrupt_cancelled(slot, now_s)
        else:
            self.set(slot, self.next_look_s(slot, now_s))

    def next_look_s(self, slot: Slot, now_s: float) -> float:
        policy = slot.runs[0].policy
        look_s = slot.since_s + policy.timeout_s if policy.timeout_s else NEVER
        if policy.soft_timeout_s and not slot.interrupted:
            look_s = min(look_s, slot.since_s + policy.soft_timeout_s)
        if len(slot.runs) > 1 and now_s < slot.since_s + PATIENCE_S:
            look_s = min(look_s, slot.since_s + PATIENCE_S)
        return look_s

    def overdue(self, slot: Slot, now_s: float) -> None:
        """The moment of a slot with runs has come."""
        run = slot.runs[0]
        age_s, policy = now_s - slot.since_s, run.policy
        if policy.timeout_s and age_s >= policy.timeout_s:
            self.kill(slot, Cause.TIMEOUT)
            return
        if run.cancelled is not None:
            self.kill(slot, Cause.CANCELLED)
            return
        if policy.soft_timeout_s and age_s >= policy.soft_timeout_s and not slot.interrupted:
            slot.interrupted = True
            self.actions.append(Interrupt(slot.index, run.token, cancel=False))
        if len(slot.runs) > 1 and age_s >= PATIENCE_S:
            self.actions.append(TakeBack(slot.index))
        slot.deadline_s = self.next_look_s(slot, now_s)

    def interrupt_cancelled(self, slot: Slot, now_s: float) -> None:
        if slot.phase is Phase.DYING:
            return
        slot.interrupted = True
        self.actions.append(Interrupt(slot.index, slot.runs[0].token, cancel=True))
        timeout_s = slot.runs[0].policy.timeout_s
        end_s = slot.since_s + timeout_s if timeout_s else NEVER
        self.set(slot, min(end_s, now_s + self.timing.cancel_grace_s))

    def kill(self, slot: Slot, kill_cause: Cause | None) -> None:
        """End the worker: because of its run, which then ends with `kill_cause`, or, with None, for another reason."""
        if slot.phase is not Phase.DYING:
            slot.kill_cause = kill_cause
            slot.phase, slot.deadline_s = Phase.DYING, NEVER
            self.actions.append(Kill(slot.index))
