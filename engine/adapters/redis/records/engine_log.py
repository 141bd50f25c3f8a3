"""The engine's own log in a stream of Redis, trimmed to about as many lines as are worth reading."""

from collections.abc import Iterator, Sequence
from typing import Any

import orjson

from engine.adapters.redis.wire.connection import Connections
from engine.adapters.redis.wire.keys import Keys

KEPT_LINES = 10_000
PAGE = 500


class RedisEngineLog:
    def __init__(self, redis: Connections, keys: Keys) -> None:
        self._redis, self._key = redis, keys.journal

    def append(self, rows: Sequence[str]) -> None:
        """Keep lines, each a JSON object; the oldest ones go."""
        self._redis.call_all([("XADD", self._key, "MAXLEN", "~", KEPT_LINES, "*", "e", row) for row in rows])

    def newest_first(self, before_id: str = "+", since_ms: int = 0) -> Iterator[dict[str, Any]]:
        """The lines with their `id`, from the one before that id back to that time."""
        bound = before_id if before_id == "+" else f"({before_id}"
        while bound != "(0-0":  # before which there is nothing, which Redis calls an error
            told = self._redis.call("XREVRANGE", self._key, bound, str(since_ms), "COUNT", PAGE)
            for entry_id, fields in told:
                yield {**_row(fields[1]), "id": entry_id.decode()}
            if len(told) < PAGE:
                return
            bound = f"({told[-1][0].decode()}"


def _row(text: bytes) -> dict[str, Any]:
    try:
        row = orjson.loads(text)
    except ValueError:  # a line that was too long was cut
        return {"level": "INFO", "message": text[:1000].decode(errors="replace")}
    return row if isinstance(row, dict) else {}
