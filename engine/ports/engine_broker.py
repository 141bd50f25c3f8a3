"""What the API and the CLI ask of a broker, beyond what a client does: they operate an engine for many callers."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

from engine.core.task.priority import TaskPriority
from engine.ports.api_keys import ApiKeyStore
from engine.ports.client_broker import BrokerProvider, ClientBroker
from engine.ports.clock import Clock
from engine.ports.event_stream import EventStreamReader
from engine.ports.webhooks import WebhookStore


class EngineBroker(ClientBroker, Protocol):
    """Each method may raise `BrokerError`; those that name a task raise `TaskNotFound`."""

    @property
    def clock(self) -> Clock: ...
    @property
    def api_keys(self) -> ApiKeyStore: ...
    @property
    def webhooks(self) -> WebhookStore: ...

    def event_stream(self) -> EventStreamReader:
        """A reader of its own for each thread."""

    def amend(self, task_id: str, changes: Mapping[str, Any], priority: TaskPriority | None,
              versions: Collection[str] | None = None) -> None:
        """Set options of a task that has not started (None takes one away), and its priority.

        Raises `ChangedMeanwhile` if the task is in none of these versions, `MoveRefused` if it runs or has ended.
        """

    def requeue_many(self, ids: Sequence[str]) -> int:
        """Queue those again that can be; return how many."""

    def earlier_ids(self, keys: Collection[tuple[str, str]]) -> dict[tuple[str, str], str]:
        """The id that each idempotency key stands for, where its queue knows the key; keys are (queue, key)."""

    def check_durability(self) -> None:
        """Raises `DurabilityUnavailable` with the reason if nobody can say when a write is on disk."""

    def info(self) -> dict[str, Any]:
        """What Redis says of itself."""

    def appendfsync(self) -> str | None:
        """How Redis writes its append-only file to disk; None where this user may not ask."""


class EngineBrokerProvider(BrokerProvider, Protocol):
    """Gives the broker of an engine in Redis, connected at first use."""

    def broker(self) -> EngineBroker:
        """Raises `BrokerError` or, where the embedded Redis does not start, `EngineError`."""
