"""`client.engine`: the engine as a whole: its numbers, its clock, commands to all of its pools."""

from collections.abc import Mapping
from typing import Any

from engine.ports.client_broker import BrokerProvider


class EngineClient:
    """The verbs of the engine as a whole. Every method may raise `BrokerError`."""

    def __init__(self, provider: BrokerProvider) -> None:
        self._provider = provider

    def now_ms(self) -> int:
        """Return the time by Redis's clock, in milliseconds since 1970."""
        return self._provider.now_ms()

    def control(self, command: Mapping[str, Any]) -> int:
        """Have every engine do something to its pools.

        Args:
            command: such as `{"do": "scale", "pool": "default", "workers": 4}`; `engine/services/tree/control.py` has
                all of them.

        Returns:
            How many engines heard it.
        """
        return self._provider.broker().control(command)

    def task_counts(self) -> dict[str, int]:
        """Return how many tasks are in each status now. PENDING and RETRYING are estimates where they are many."""
        return self._provider.broker().status_counts()

    def counters(self) -> dict[str, int]:
        """Return what has happened since the beginning: `submitted`, `runs`, each final status …"""
        return self._provider.broker().counters()
