"""The engine's own log: the last lines of all its processes, on whatever host they run."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

LEVELS = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40, "CRITICAL": 50}


class EngineLog(Protocol):
    """Each method may raise `BrokerError`."""

    def append(self, rows: Sequence[str]) -> None:
        """Keep lines, each a JSON object; the oldest ones go."""

    def newest_first(self, before_id: str = "+", since_ms: int = 0) -> Iterator[dict[str, Any]]:
        """The lines with their `id`, from the one before that id back to that time."""
