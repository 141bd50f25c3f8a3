"""What an engine is doing right now, read from Redis in a few commands: for `workers`, `top` and `tree`.

Knows what supervisors and the keeper report; draws nothing.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.core.measure.reports import with_measurements

if TYPE_CHECKING:
    from engine.adapters.redis.tasks.broker import Broker
    from engine.client.models import QueueStats


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`supervisors` are their reports, each slot with the measurements of its process; `processes` all samples."""

    now_ms: int
    queues: "list[QueueStats]"
    supervisors: list[dict[str, Any]]
    processes: list[dict[str, Any]]
    statuses: dict[str, int]
    counters: dict[str, int]

    def model_dump(self, mode: str = "json") -> dict[str, Any]:
        return {"now_ms": self.now_ms, "queues": [queue.model_dump(mode=mode) for queue in self.queues],
                "supervisors": self.supervisors, "processes": self.processes, "statuses": self.statuses,
                "counters": self.counters}


def take(broker: "Broker") -> Snapshot:
    """Read it all. Raises `BrokerError`."""
    from engine.client.models import QueueStats

    processes = broker.processes()
    supervisors = with_measurements(broker.supervisors(), processes)
    return Snapshot(broker.clock.now_ms(), [QueueStats.model_validate(row) for row in broker.queue_stats()],
                    supervisors, processes, broker.status_counts(), broker.counters())
