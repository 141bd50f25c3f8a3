"""What an engine is doing right now, read from Redis in a few commands: for `workers`, `top` and `tree`.

Knows what supervisors and the keeper report; draws nothing.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.core.measure.reports import with_measurements

if TYPE_CHECKING:
    from engine.client import Client
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


def take(client: "Client") -> Snapshot:
    """Read it all. Raises `BrokerError`."""
    processes = client.workers.processes()
    supervisors = with_measurements(client.workers.supervisors(alive_only=False), processes)
    return Snapshot(client.engine.now_ms(), client.queues.stats(), supervisors, processes, client.engine.task_counts(),
                    client.engine.counters())
