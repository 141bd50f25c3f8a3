"""The engine's own log in Redis too, for whoever is not on this host: the last 10,000 lines of all its processes.

A thread of its own ships them, so that logging never waits for Redis; what it cannot keep up with is counted and
dropped. The root speaks to no Redis: it hands its lines to its keeper. The audit log stays where it is written.
"""

import logging
import queue
import threading
from collections.abc import Callable
from typing import Any

import orjson

from engine.logs import JsonFormatter
from engine.ports.engine_log import EngineLog

PENDING_MAX = 1_000
BATCH_MAX = 100
ROW_BYTES_MAX = 65_536
FORWARDED_CHARS_MAX = 16_384
_PAUSE_S = 1.0

AUDIT = "ganger.audit"


class LogForwarder(logging.Handler):
    """Gives each line, as JSON, to a function; lines about calls of the API are not for it."""

    def __init__(self, process: str, take: Callable[[str], None]) -> None:
        super().__init__()
        self.setFormatter(JsonFormatter(process))
        self._take = take

    def emit(self, record: logging.LogRecord) -> None:
        if record.name != AUDIT:
            self._take(self.format(record)[:ROW_BYTES_MAX])


class RedisLog:
    """`put` never blocks."""

    def __init__(self, engine_log: EngineLog) -> None:
        self._engine_log = engine_log
        self._rows: queue.Queue[str] = queue.Queue(PENDING_MAX)
        self._dropped = 0
        try:
            threading.Thread(target=self._ship, name="journal", daemon=True).start()
        except RuntimeError as error:  # the kernel has none to give; what is logged is on stderr all the same
            logging.getLogger("ganger.errors").warning("the log is not kept in Redis", extra={"reason": str(error)})

    def put(self, row: str) -> None:
        try:
            self._rows.put_nowait(row)
        except queue.Full:
            self._dropped += 1

    def _ship(self) -> None:
        pause = threading.Event()
        while True:
            rows = [self._rows.get()]
            while len(rows) < BATCH_MAX and not self._rows.empty():
                rows.append(self._rows.get())
            if self._dropped:
                rows.append(orjson.dumps({"level": "WARNING", "message": "lines of the log were dropped",
                                          "count": self._dropped}).decode())
                self._dropped = 0
            try:
                self._engine_log.append(rows)
            except Exception:  # noqa: BLE001  this thread has to go on, and cannot log what keeps it from logging
                self._dropped += len(rows)
                pause.wait(_PAUSE_S)


def keep_log(engine_log: EngineLog, process: str) -> RedisLog:
    """Have what this process logs kept in Redis too."""
    kept = RedisLog(engine_log)
    logging.getLogger("ganger").addHandler(LogForwarder(process, kept.put))
    return kept


def forward_log(tell: Callable[[dict[str, Any]], None]) -> None:
    """Have what this process logs handed to another one, which keeps it."""
    def forward(row: str) -> None:
        tell({"do": "journal", "row": row[:FORWARDED_CHARS_MAX]})

    logging.getLogger("ganger").addHandler(LogForwarder("root", forward))
