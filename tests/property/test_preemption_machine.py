"""The machine of `test_dispatch_machine`, where runs have to make way: all places taken, and urgent ones come."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import rule

from engine.core.pool.actions import Preempt
from engine.core.pool.slot import Phase
from engine.core.task.limits import Limits
from engine.core.task.outcome import Cause
from tests.property.test_dispatch_machine import LOW, URGENT, World, a_slot


class Saturated(World):
    is_calm = True

    @rule(priority=st.integers(LOW, URGENT - 1), timeout=st.sampled_from([0.0, 3.0]), kind=st.sampled_from("ab"),
          weight=st.sampled_from([10, 40, 90]), limits=st.sampled_from([None, None, Limits(nice=5)]),
          urgent=st.integers(0, 2))
    def all_places_are_taken(self, priority: int, timeout: float, kind: str, weight: int,
                             limits: Limits | None, urgent: int) -> None:
        self.all_say_ready()
        if self.core.room(self.now).preempt is not Preempt.NOW:
            self.claims(5, timeout, 0.0, False, kind, False, limits, priority, weight, True)
        self.time_passes(0.012)
        if urgent:
            self.urgent_ones_come(urgent, 0.0)

    @rule(count=st.integers(1, 3), timeout=st.sampled_from([0.0, 3.0]))
    def urgent_ones_come(self, count: int, timeout: float) -> None:
        self.claims(count, timeout, 0.0, False, "a", False, None, URGENT, 10, True)
        self.all_say_ready()

    @rule(slot=a_slot, again=st.booleans())
    def an_urgent_one_ends(self, slot: int, again: bool) -> None:
        worker = self.workers.get(slot)
        if worker is not None and worker.running is not None and worker.running.priority == URGENT:
            self.replies(slot, b"C", 0.5)
            if again:
                self.urgent_ones_come(1, 0.0)

    @rule(index=st.integers(0, 1), what=st.sampled_from(["cancel", "dies", "exceeds", "replace", "kill"]))
    def one_that_is_suspended(self, index: int, what: str) -> None:
        suspended = [slot.index for slot in self.core.slots if slot.phase is Phase.SUSPENDED]
        if index >= len(suspended):
            return
        slot = suspended[index]
        if what == "cancel":
            self.core.cancel(self.core.slots[slot].runs[0].task_id, "no longer wanted", self.now)
            assert self.core.slots[slot].phase is Phase.UP, "it goes on, so that it can hear of it"
        elif what == "dies":
            self.dies(slot)
        elif what == "exceeds":
            self.exceeds_a_limit(slot, Cause.OUT_OF_MEMORY)
        else:
            self.core.replace(slot, self.now, at_once=what == "kill")
        self.obey()


TestSaturated = Saturated.TestCase
TestSaturated.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
del World  # it is run where it stands
