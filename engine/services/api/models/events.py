"""Events and the engine's log."""

from datetime import datetime
from typing import Any

from pydantic import Field

from engine.core.task.lifecycle import TaskStatus
from engine.services.api.models.base import EXAMPLE_ID, ResponseModel


class TaskEvent(ResponseModel):
    """A task came into a status. `task_type` and `queue` are there where a filter needed them."""

    id: str = Field(examples=[EXAMPLE_ID])
    status: TaskStatus
    run: int
    at: datetime
    task_type: str | None = None
    queue: str | None = None


class EngineLogEntry(ResponseModel):
    """One line of the engine's own log; `facts` are what was said beyond the message."""

    id: str
    at: datetime | None = None
    level: str = Field(examples=["INFO"])
    logger: str | None = Field(default=None, examples=["ganger.execution"])
    process: str | None = Field(default=None, examples=["pool default"])
    pid: int | None = None
    message: str = Field(examples=["a worker has ended"])
    facts: dict[str, Any] = Field(default_factory=dict)


class EngineLogPage(ResponseModel):
    """Lines of the engine's own log, the newest first."""

    entries: list[EngineLogEntry]
    next: str | None = Field(default=None, description="`before` of the next page; null after the last.")
