"""`client.workers`: which supervisors are alive, and what their workers do."""

from typing import Any

from engine.ports.client_broker import BrokerProvider


class WorkersClient:
    """The verbs of supervisors and workers. Every method may raise `BrokerError`."""

    def __init__(self, provider: BrokerProvider) -> None:
        self._provider = provider

    def supervisors(self) -> list[dict[str, Any]]:
        """Return the reports of the supervisors that are alive; each has one entry for a worker in `slots`."""
        return [report for report in self._provider.broker().supervisors() if report["alive"]]

    __call__ = supervisors  # `client.workers()`

    def processes(self) -> list[dict[str, Any]]:
        """Return the latest sample of every process of the engine, on every host: memory in bytes, CPU in percent."""
        return self._provider.broker().processes()
