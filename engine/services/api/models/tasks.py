"""Tasks: what is submitted, changed and read of one."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import ConfigDict, Field

from engine.client.models import LogLine, Progress, Task, TaskError, moment
from engine.core.task.lifecycle import TaskStatus
from engine.core.task.options import Giver, amendable, given_by
from engine.core.task.stored_task import StoredTask
from engine.services.api.models.base import EXAMPLE_ID, PrintableText, RequestModel, ResponseModel
from engine.services.api.models.task_options import with_options
from engine.services.api.models.webhooks import TaskWebhook


@with_options(given_by(Giver.API))
class TaskCreate(RequestModel):
    """A task to submit. What is left out is as the handler says, or as the settings do."""

    is_plain = True

    model_config = ConfigDict(json_schema_extra={"examples": [
        {"name": "thumbnail of 7", "task_type": "thumbnail", "payload": {"id": 7}, "priority": "HIGH", "timeout": 60,
         "tags": ["customer-42"]}]})

    task_type: PrintableText = Field(description="Name of the handler.", examples=["thumbnail"])
    payload: Any = Field(default={}, description="What the handler gets: any JSON value.", examples=[{"id": 7}])
    def options(self) -> dict[str, Any]:
        """The task as `submit_many` takes one: type, payload, and the options that were given."""
        return {name: value.stored() if isinstance(value, TaskWebhook) else value for name in self.model_fields_set
                if (value := getattr(self, name)) is not None or name == "payload"}


@with_options(amendable())
class TaskUpdate(RequestModel):
    """What to change of a task that has not started; null takes what was said away."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"priority": "URGENT", "timeout": 120}]})


class TaskResponse(Task):
    """A task as it is now. Times are UTC, durations seconds, memory bytes; null is not known, or not yet."""

    model_config = ConfigDict(frozen=True, json_schema_extra={"examples": [
        {"id": EXAMPLE_ID, "name": "thumbnail of 7", "task_type": "thumbnail", "status": "COMPLETED",
         "priority": "HIGH", "queue": "images", "payload": {"id": 7}, "attempts": 0, "crashes": 0, "run": 1,
         "result": {"bytes": 20480}, "error": None, "cause": "returned", "created_at": "2026-01-01T12:00:00Z",
         "started_at": "2026-01-01T12:00:00.010Z", "ended_at": "2026-01-01T12:00:01.250Z", "wait_s": 0.01,
         "wall_s": 1.24, "cpu_s": 1.2, "peak_rss_bytes": 73400320, "worker": "host.default.3f9a1c/0", "pid": 4242,
         "tags": ["customer-42"]}]})
    reason: str | None = Field(default=None, description="What a QUEUED task waits for, if that is more than its turn: "
                               "a living pool that knows its type, the end of a pause.")


class TaskState(ResponseModel):
    """Where a task is."""

    id: str = Field(examples=[EXAMPLE_ID])
    status: TaskStatus
    run: int = Field(examples=[1], description="Number of the latest run.")
    progress: Progress | None = None

    @classmethod
    def of(cls, stored: StoredTask) -> "TaskState":
        said = stored.progress
        progress = None if not said else Progress(
            fraction=said.get("fraction"), message=said.get("message"),
            at=None if said.get("at_ms") is None else moment(said["at_ms"]))
        return cls(id=stored.id, status=stored.state.status, run=stored.state.run, progress=progress)


class TaskResult(ResponseModel):
    """How a task ended: what its handler returned, or why there is nothing."""

    id: str = Field(examples=[EXAMPLE_ID])
    status: TaskStatus
    result: Any = Field(default=None, examples=[{"bytes": 20480}])
    error: TaskError | None = None
    cause: str | None = Field(default=None, examples=["returned"])

    @classmethod
    def of(cls, stored: StoredTask) -> "TaskResult":
        outcome = stored.outcome or {}
        error = outcome.get("error")
        return cls(id=stored.id, status=stored.state.status, result=outcome.get("result"),
                   error=TaskError(**error) if error else None, cause=outcome.get("cause"))


class TaskRun(ResponseModel):
    """One run of a task, ended or under way."""

    run: int = Field(examples=[1])
    is_running: bool = False
    cause: str | None = Field(default=None, examples=["returned"])
    worker: str | None = Field(default=None, examples=["host.default.3f9a1c/0"])
    pid: int | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    wall_s: float | None = None
    cpu_s: float | None = None
    peak_rss_bytes: int | None = None
    result: Any = None
    error: TaskError | None = None
    post_mortem: dict[str, Any] | None = Field(default=None, description="Of a run that was killed or crashed.")

    @classmethod
    def of(cls, outcome: Mapping[str, Any]) -> "TaskRun":
        """One that has ended."""
        started_ms, ended_ms, error = outcome.get("started_ms"), outcome.get("ended_ms"), outcome.get("error")
        return cls(run=outcome["run"], cause=outcome.get("cause"), worker=outcome.get("worker"), pid=outcome.get("pid"),
                   started_at=None if started_ms is None else moment(started_ms),
                   ended_at=None if ended_ms is None else moment(ended_ms), wall_s=outcome.get("wall_s"),
                   cpu_s=outcome.get("cpu_s"), peak_rss_bytes=outcome.get("peak_rss_bytes"),
                   result=outcome.get("result"), error=TaskError(**error) if error else None,
                   post_mortem=outcome.get("post_mortem"))


class LogEntry(LogLine):
    """One line that a run printed or logged."""


class Moved(ResponseModel):
    """What was done to a task."""

    id: str = Field(examples=[EXAMPLE_ID])
    status: TaskStatus = Field(description="Where it is now; RUNNING while its worker is being stopped.")


class CancelRequest(RequestModel):
    """Why; may be left out."""

    reason: PrintableText = Field(default="cancelled over the API", examples=["wrong input"])
