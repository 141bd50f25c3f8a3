"""Reading the stream of events as it grows, on a connection of its own.

Law: the stream is trimmed; whoever reads slowly, or comes back late, is told
that something is missing rather than given less.
"""

import logging
from typing import Any, NamedTuple

from engine.adapters.redis.connection import Connection, Connections
from engine.adapters.redis.errors import from_redis
from engine.adapters.redis.keys import Keys
from engine.core.event import Event, events

BEGINNING = "0-0"
_errors = logging.getLogger("ganger.errors")


class Entry(NamedTuple):
    """What one script call did. The id is "ms-number"; its first part is Redis's time."""

    id: str
    events: list[Event]

    @property
    def at_ms(self) -> int:
        return int(self.id.partition("-")[0])


class Tail:
    """One reader, for one thread. `follow` blocks less long than the connection's deadline."""

    def __init__(self, redis: Connections, keys: Keys) -> None:
        self._redis, self._keys = redis, keys
        self._connection: Connection | None = None

    def last_id(self) -> str:
        """The id of the last entry; that of the beginning if there is none."""
        told = self._redis.call("XREVRANGE", self._keys.events, "+", "-", "COUNT", 1)
        return told[0][0].decode() if told else BEGINNING

    def first_id(self) -> str:
        """The id of the first entry that is still there; that of the beginning if there is none."""
        told = self._redis.call("XRANGE", self._keys.events, "-", "+", "COUNT", 1)
        return told[0][0].decode() if told else BEGINNING

    def after(self, entry_id: str, count: int) -> list[Entry]:
        """The next entries, at once."""
        told = self._redis.call("XRANGE", self._keys.events, f"({entry_id}", "+", "COUNT", count)
        return [_entry(*row) for row in told]

    def follow(self, entry_id: str, count: int, block_ms: int) -> list[Entry]:
        """The next entries, or after `block_ms` none. Raises `BrokerError`."""
        try:
            if self._connection is None:
                self._connection = self._redis.open()
            self._connection.send_command("XREAD", "COUNT", count, "BLOCK", block_ms, "STREAMS", self._keys.events,
                                          entry_id)
            told = self._connection.read_response()
        except Exception as error:
            self.close()
            raise from_redis(error) from error
        return [_entry(*row) for row in told[0][1]] if told else []

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.disconnect()


def _entry(entry_id: bytes, fields: list[Any]) -> Entry:
    """What is no row of the engine's is passed over."""
    told = dict(zip(fields[::2], fields[1::2], strict=True)).get(b"e", b"")
    try:
        return Entry(entry_id.decode(), list(events(told)))
    except ValueError as error:
        _errors.error("an entry of the events cannot be read", extra={"entry": entry_id.decode(), "reason": str(error)})
        return Entry(entry_id.decode(), [])


def key_of(entry_id: str) -> tuple[int, int]:
    """To compare ids by. Raises `ValueError` for a text that is none."""
    moment, _, number = entry_id.partition("-")
    return int(moment), int(number or 0)
