"""The stream of events: what happened to tasks, in order, as far back as it is kept.

The stream is trimmed. A reader that is slow or comes back late is told that something is missing; it is never given
less in silence.
"""

import re
from typing import NamedTuple, Protocol

from engine.core.task.event import Event

BEGINNING = "0-0"


class StreamEntry(NamedTuple):
    """What one script call did. The id is "ms-number"; its first part is the time by Redis's clock."""

    id: str
    events: list[Event]

    @property
    def at_ms(self) -> int:
        return int(self.id.partition("-")[0])


class StreamPage(NamedTuple):
    """Some entries, one after the other. `gap`: some before them, after the one asked for, are not there any more."""

    entries: list[StreamEntry]
    gap: bool


class EventStreamReader(Protocol):
    """One reader, for one thread. Each method may raise `BrokerError`."""

    def last_id(self) -> str:
        """The id of the last entry; `BEGINNING` if there is none."""

    def after(self, entry_id: str, count: int) -> StreamPage:
        """The next entries, at once, and whether any before them are gone."""

    def follow(self, entry_id: str, count: int, block_ms: int) -> StreamPage:
        """The next entries, or none after `block_ms`; whether any before them are gone."""

    def close(self) -> None: ...


def is_entry_id(text: str) -> bool:
    """Whether it can be the id of an entry."""
    return re.fullmatch(r"[0-9]{1,15}-[0-9]{1,15}", text, re.ASCII) is not None


def key_of(entry_id: str) -> tuple[int, int]:
    """To compare ids by. Raises `ValueError` for a text that is none."""
    moment, _, number = entry_id.partition("-")
    return int(moment), int(number or 0)
