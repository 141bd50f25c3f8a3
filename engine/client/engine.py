"""`client.engine`: what an engine has done and does, in numbers."""

from engine.ports.client_broker import BrokerProvider


class EngineClient:
    """The verbs of the engine as a whole. Every method may raise `BrokerError`."""

    def __init__(self, provider: BrokerProvider) -> None:
        self._provider = provider

    def task_counts(self) -> dict[str, int]:
        """Return how many tasks are in each status now. PENDING and RETRYING are estimates where they are many."""
        return self._provider.broker().status_counts()

    def counters(self) -> dict[str, int]:
        """Return what has happened since the beginning: `submitted`, `runs`, each final status …"""
        return self._provider.broker().counters()
