"""Reading the stream of events as it grows, on a connection of its own.

Law: the stream is trimmed; whoever reads slowly, or comes back late, is told
that something is missing rather than given less.
"""

import logging
from typing import Any

from engine.adapters.redis.wire.connection import Connection, Connections
from engine.adapters.redis.wire.errors import from_redis
from engine.adapters.redis.wire.keys import Keys
from engine.core.task.event import events
from engine.ports.event_stream import BEGINNING, StreamEntry, StreamPage, key_of

_errors = logging.getLogger("ganger.errors")


class RedisEventStreamReader:
    """One reader, for one thread. `follow` blocks less long than the connection's deadline."""

    def __init__(self, redis: Connections, keys: Keys) -> None:
        self._redis, self._keys = redis, keys
        self._connection: Connection | None = None
        self._must_check = True  # after a break anything may have happened

    def last_id(self) -> str:
        """The id of the last entry; that of the beginning if there is none."""
        told = self._redis.call("XREVRANGE", self._keys.events, "+", "-", "COUNT", 1)
        return told[0][0].decode() if told else BEGINNING

    def after(self, entry_id: str, count: int) -> StreamPage:
        """The next entries, at once, and whether any before them are gone."""
        told, first = self._redis.call_all([
            ("MULTI",), ("XRANGE", self._keys.events, f"({entry_id}", "+", "COUNT", count),
            ("XRANGE", self._keys.events, "-", "+", "COUNT", 1), ("EXEC",)])[-1]
        return StreamPage([_entry(*row) for row in told], _is_gap(entry_id, first))

    def follow(self, entry_id: str, count: int, block_ms: int) -> StreamPage:
        """The next entries, or after `block_ms` none; whether any before them are gone. Raises `BrokerError`.

        Where fewer than `count` came, none are: the stream is cut only when thousands have come since.
        """
        try:
            if self._connection is None:
                self._connection = self._redis.open()
            self._connection.send_command("XREAD", "COUNT", count, "BLOCK", block_ms, "STREAMS", self._keys.events,
                                          entry_id)
            told = self._connection.read_response()
            first = []
            if told and (len(told[0][1]) >= count or self._must_check):
                self._connection.send_command("XRANGE", self._keys.events, "-", "+", "COUNT", 1)
                first = self._connection.read_response()
        except Exception as error:
            self.close()
            raise from_redis(error) from error
        self._must_check = self._must_check and not told
        return StreamPage([_entry(*row) for row in told[0][1]] if told else [], _is_gap(entry_id, first))

    def close(self) -> None:
        self._must_check = True
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.disconnect()


def _entry(entry_id: bytes, fields: list[Any]) -> StreamEntry:
    """What is no row of the engine's is passed over."""
    told = dict(zip(fields[::2], fields[1::2], strict=True)).get(b"e", b"")
    try:
        return StreamEntry(entry_id.decode(), list(events(told)))
    except ValueError as error:
        _errors.error("an entry of the events cannot be read", extra={"entry": entry_id.decode(), "reason": str(error)})
        return StreamEntry(entry_id.decode(), [])


def _is_gap(entry_id: str, first: list[Any]) -> bool:
    """Whether the first entry that is left comes after this one. Whoever begins at the beginning misses nothing."""
    return bool(first) and (0, 0) < key_of(entry_id) < key_of(first[0][0].decode())
