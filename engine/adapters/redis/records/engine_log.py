"""Reading the engine's own log."""

from collections.abc import Iterator
from typing import Any

import orjson

from engine.adapters.redis.wire.connection import Connections
from engine.adapters.redis.wire.keys import Keys

LEVELS = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40, "CRITICAL": 50}
PAGE = 500


def newest_first(redis: Connections, keys: Keys, before_id: str = "+", since_ms: int = 0) -> Iterator[dict[str, Any]]:
    """The lines with their `id`, from the one before that id back to that time."""
    bound = before_id if before_id == "+" else f"({before_id}"
    while bound != "(0-0":  # before which there is nothing, which Redis calls an error
        told = redis.call("XREVRANGE", keys.journal, bound, str(since_ms), "COUNT", PAGE)
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
