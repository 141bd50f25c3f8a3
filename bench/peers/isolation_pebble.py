"""pebble, a pool of one process in the driver itself, without a queue of Redis: what is measured of it."""

from typing import Any

from pebble import ProcessPool

from bench import isolation_tasks


class Pebble:
    label = "pebble (no queue)"
    packages = ("pebble",)
    has_priorities = False

    def __init__(self) -> None:
        self._pool = ProcessPool(max_workers=1)

    def commands(self) -> list[list[str]]:
        return []

    def send(self, name: str, *arguments: Any, limit_s: float | None = None, urgent: bool = False) -> None:
        self._pool.schedule(getattr(isolation_tasks, name), args=list(arguments), timeout=limit_s)

    def close(self) -> None:
        self._pool.stop()
        self._pool.join()
