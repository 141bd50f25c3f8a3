"""`client.queues`: what waits in queues, and whether their tasks may start."""

from engine.client.models import QueueStats
from engine.core.task.names import check_queue_name
from engine.ports.client_broker import BrokerProvider

PURGE_TASKS = 500  # tasks that one call to the broker cancels


class QueuesClient:
    """The verbs of queues. A queue needs no declaration: the first task that is submitted to it makes it.

    Every method may raise `BrokerError`; those that take a name raise `InvalidOption` for a name that no queue may
    have.
    """

    def __init__(self, provider: BrokerProvider) -> None:
        self._provider = provider

    def stats(self) -> list[QueueStats]:
        """Return each queue that is known, and what waits in it. A queue that is unused for a day is forgotten."""
        return [QueueStats.model_validate(row) for row in self._provider.broker().queue_stats()]

    def pause(self, queue: str) -> None:
        """Start no more tasks of a queue. Tasks that run go on; tasks may still be submitted."""
        self._provider.broker().pause(check_queue_name(queue))

    def resume(self, queue: str) -> None:
        """Start tasks of a paused queue again."""
        self._provider.broker().resume(check_queue_name(queue))

    def purge(self, queue: str) -> int:
        """Cancel every task that is queued in a queue; return how many."""
        name, purged = check_queue_name(queue), 0
        while count := self._provider.broker().purge(name, PURGE_TASKS):
            purged += count
        return purged
