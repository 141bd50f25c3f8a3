"""Each event and each action has a part of the pool that takes care of it."""

from typing import get_args

import pytest

from engine.core.pool.actions import Action, Halt
from engine.ports.host import Event
from engine.ports.supervisor_broker import BrokerEvent
from engine.services.pool.registry import Part, Registry
from tests.unit.services.pool.pool_harness import PoolHarness


class Noting(Part):
    def __init__(self, noted: list[str], name: str) -> None:
        self.noted, self.name = noted, name

    def handles(self):  # type: ignore[no-untyped-def]
        return {int: lambda event, now_s: self.noted.append(f"{self.name} {event} {now_s}")}


def test_a_pool_handles_all_that_host_and_broker_say_and_all_that_the_dispatcher_asks_for() -> None:
    registry = PoolHarness().pool.registry
    assert registry.events == {*get_args(Event), *get_args(BrokerEvent)}
    assert registry.actions == {*get_args(Action)}


def test_parts_that_share_an_event_get_it_in_their_order() -> None:
    noted: list[str] = []
    Registry([Noting(noted, "a"), Noting(noted, "b")]).handle([1, 2], 0.5)
    assert noted == ["a 1 0.5", "b 1 0.5", "a 2 0.5", "b 2 0.5"]


def test_commands_that_come_while_others_are_carried_out_are_carried_out_too() -> None:
    actions, done = [Halt("first")], []

    class Asking(Part):
        def carries_out(self):  # type: ignore[no-untyped-def]
            return {Halt: self.halt}

        def halt(self, action: Halt) -> None:
            done.append(action.reason)
            if action.reason == "first":
                actions.append(Halt("second"))

    Registry([Asking()]).carry_out(actions)  # type: ignore[arg-type]
    assert (done, actions) == (["first", "second"], [])
    with pytest.raises(AssertionError, match="Halt"):
        Registry([Asking(), Asking()])
