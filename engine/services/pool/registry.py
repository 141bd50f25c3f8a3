"""Which part of a pool's supervisor handles which event, and which carries out which action of the dispatcher.

A part declares both itself. A new event or action is a new entry in one part; the supervisor stays as it is.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from engine.core.pool.actions import Action

Kind = type[Any]
EventHandler = Callable[[Any, float], None]  # an event, and the moment in seconds (monotonic)
ActionHandler = Callable[[Any], None]


class Part:
    """A part of a pool's supervisor. By default it handles nothing."""

    def handles(self) -> Mapping[Kind, EventHandler]:
        """The events of the host and of Redis that concern it."""
        return {}

    def carries_out(self) -> Mapping[Kind, ActionHandler]:
        """The actions of the dispatcher that it carries out."""
        return {}


class Registry:
    """The tables of all parts in one. Looking up an event or an action costs one dict lookup.

    Several parts may handle the same event: they get it in the order of `parts`. An action belongs to one part.
    """

    def __init__(self, parts: Iterable[Part]) -> None:
        handlers: dict[Kind, list[EventHandler]] = {}
        self._action_handlers: dict[Kind, ActionHandler] = {}
        for part in parts:
            for kind, handler in part.handles().items():
                handlers.setdefault(kind, []).append(handler)
            for kind, carry_out in part.carries_out().items():
                assert kind not in self._action_handlers, f"two parts carry out {kind.__name__}"
                self._action_handlers[kind] = carry_out
        self._event_handlers = {kind: _in_turn(found) for kind, found in handlers.items()}

    @property
    def events(self) -> set[Kind]:
        return set(self._event_handlers)

    @property
    def actions(self) -> set[Kind]:
        return set(self._action_handlers)

    def handle(self, events: Iterable[Any], now_s: float) -> None:
        """Give each event to the parts that handle it."""
        for event in events:
            self._event_handlers[type(event)](event, now_s)

    def carry_out(self, actions: list[Action]) -> None:
        """Carry out all actions, including those that the dispatcher adds meanwhile, and leave the list empty."""
        while actions:
            batch = actions[:]
            actions.clear()
            for action in batch:
                self._action_handlers[type(action)](action)


def _in_turn(handlers: list[EventHandler]) -> EventHandler:
    if len(handlers) == 1:
        return handlers[0]

    def handle_all(event: Any, now_s: float) -> None:
        for handler in handlers:
            handler(event, now_s)

    return handle_all
