"""What an engine is doing right now, read from Redis in a few commands: for `workers`, `top` and `tree`.

Knows what supervisors and the keeper report; draws nothing.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.adapters.redis.broker import Broker
    from engine.models import QueueStats

MEASURED = ("cpu_percent", "rss_bytes", "threads", "open_files")


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
    from engine.models import QueueStats

    processes = broker.processes()
    supervisors = with_measurements(broker.supervisors(), processes)
    return Snapshot(broker.clock.now_ms(), [QueueStats.model_validate(row) for row in broker.queue_stats()],
                    supervisors, processes, broker.status_counts(), broker.counters())


def with_measurements(supervisors: list[dict[str, Any]], processes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The reports, with CPU and memory put beside each slot and each supervisor that was measured."""
    samples = {(sample.get("host"), sample.get("pid")): sample for sample in processes}

    def measured(host: Any, row: dict[str, Any]) -> dict[str, Any]:
        sample = samples.get((host, row.get("pid")), {})
        return {**row, **{name: sample.get(name) for name in MEASURED}}

    return [{**measured(report.get("host"), report),
             "slots": [measured(report.get("host"), slot) for slot in report.get("slots", [])]}
            for report in supervisors]
