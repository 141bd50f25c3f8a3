"""Queues."""

from pydantic import ConfigDict, Field

from engine.client.models import QueueStats as ClientQueueStats
from engine.services.api.models.base import ResponseModel


class QueueStats(ClientQueueStats):
    """One queue: what waits in it, by priority, and since when."""

    model_config = ConfigDict(frozen=True, extra="ignore", json_schema_extra={"examples": [
        {"queue": "images", "paused": False, "queued": {"URGENT": 0, "HIGH": 1, "NORMAL": 20, "LOW": 0},
         "oldest_s": 4.2}]})


class QueueTotals(ResponseModel):
    """All queues together."""

    queues: int
    paused: int
    queued: dict[str, int] = Field(description="By priority.", examples=[{"URGENT": 0, "HIGH": 1, "NORMAL": 20}])
    oldest_s: float | None
    statuses: dict[str, int] = Field(description="Tasks in each status now.", examples=[{"QUEUED": 21, "RUNNING": 2}])


class QueueChange(ResponseModel):
    """What was done to a queue."""

    queue: str = Field(examples=["images"])
    paused: bool | None = None
    purged: int | None = Field(default=None, description="Tasks that were cancelled.")
