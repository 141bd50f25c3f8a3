"""Which part of a pool's supervisor handles which event, and which carries out which command of the dispatcher.

A part declares both itself. A new event or command is a new entry in one part; the supervisor stays as it is.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from engine.core.pool.commands import Command

Kind = type[Any]
EventHandler = Callable[[Any, float], None]  # an event, and the moment in seconds (monotonic)
CommandHandler = Callable[[Any], None]


class Part:
    """A part of a pool's supervisor. By default it handles nothing."""

    def handles(self) -> Mapping[Kind, EventHandler]:
        """The events of the host and of Redis that concern it."""
        return {}

    def carries_out(self) -> Mapping[Kind, CommandHandler]:
        """The commands of the dispatcher that it carries out."""
        return {}


class Registry:
    """The tables of all parts in one. Looking up an event or a command costs one dict lookup.

    Several parts may handle the same event: they get it in the order of `parts`. A command belongs to one part.
    """

    def __init__(self, parts: Iterable[Part]) -> None:
        handlers: dict[Kind, list[EventHandler]] = {}
        self._command_handlers: dict[Kind, CommandHandler] = {}
        for part in parts:
            for kind, handler in part.handles().items():
                handlers.setdefault(kind, []).append(handler)
            for kind, carry_out in part.carries_out().items():
                assert kind not in self._command_handlers, f"two parts carry out {kind.__name__}"
                self._command_handlers[kind] = carry_out
        self._event_handlers = {kind: _in_turn(found) for kind, found in handlers.items()}

    @property
    def events(self) -> set[Kind]:
        return set(self._event_handlers)

    @property
    def commands(self) -> set[Kind]:
        return set(self._command_handlers)

    def handle(self, events: Iterable[Any], now_s: float) -> None:
        """Give each event to the parts that handle it."""
        for event in events:
            self._event_handlers[type(event)](event, now_s)

    def carry_out(self, commands: list[Command]) -> None:
        """Carry out all commands, including those that the dispatcher adds meanwhile, and leave the list empty."""
        while commands:
            batch = commands[:]
            commands.clear()
            for command in batch:
                self._command_handlers[type(command)](command)


def _in_turn(handlers: list[EventHandler]) -> EventHandler:
    if len(handlers) == 1:
        return handlers[0]

    def handle_all(event: Any, now_s: float) -> None:
        for handler in handlers:
            handler(event, now_s)

    return handle_all
