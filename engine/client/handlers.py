"""`client.handlers`: what the pools can run."""

from typing import Any

from engine.ports.client_broker import BrokerProvider


class HandlersClient:
    """The verbs of handlers. Every method may raise `BrokerError`."""

    def __init__(self, provider: BrokerProvider) -> None:
        self._provider = provider

    def announced(self) -> dict[str, dict[str, Any]]:
        """Return the handlers that pools have announced: the options of each, by its name."""
        return self._provider.broker().handlers()

    __call__ = announced  # `client.handlers()`

    def unknown_types(self) -> dict[str, int]:
        """Return how many tasks wait of each type that no living pool knows, as far as pools have met them."""
        return self._provider.broker().unknown_types()
