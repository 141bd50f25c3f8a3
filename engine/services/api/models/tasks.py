"""Tasks: what is submitted, changed and told of one."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from engine.client.models import LogLine, Progress, Task, TaskError, moment
from engine.core.task.lifecycle import TaskStatus
from engine.core.task.stored_task import StoredTask
from engine.services.api.models.base import (
    EXAMPLE_ID,
    WHOLE,
    Count,
    Memory,
    Nice,
    PrintableText,
    Priority,
    Queue,
    RequestModel,
    ResponseModel,
    Seconds,
)
from engine.services.api.models.webhooks import TaskWebhook
from engine.tasks.options import TAGS_MAX

TRACEPARENT = r"^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"


class TaskCreate(RequestModel):
    """A task to submit. What is left out is as the handler says, or as the settings do."""

    is_plain = True

    model_config = ConfigDict(json_schema_extra={"examples": [
        {"name": "thumbnail of 7", "task_type": "thumbnail", "payload": {"id": 7}, "priority": "HIGH", "timeout": 60,
         "tags": ["customer-42"]}]})

    task_type: PrintableText = Field(description="Name of the handler.", examples=["thumbnail"])
    payload: Any = Field(default={}, description="What the handler gets: any JSON value.", examples=[{"id": 7}])
    name: PrintableText | None = Field(
        default=None, description="For people: what this task is about.", examples=["thumbnail of 7"])
    queue: Queue | None = None
    priority: Priority | None = Field(default=None, examples=["HIGH"])
    delay: Seconds | None = Field(default=None, examples=[5], description="Seconds before which it is not started.")
    timeout: Seconds | None = Field(
        default=None, examples=[60], description="Seconds of one run until it is killed; 0 is never.")
    soft_timeout: Seconds | None = Field(
        default=None, examples=[50], description="Seconds of one run until SoftTimeout is raised in it; 0 is never.")
    max_retries: Count | None = Field(default=None, examples=[3])
    expires: Seconds | None = Field(
        default=None, examples=[3600], description="Seconds after which it is not started any more.")
    idempotency_key: PrintableText | None = Field(
        default=None, description="A second submit to the same queue with the same key gives the first task. "
                                         "The same as the header Idempotency-Key.")
    fair_key: PrintableText | None = Field(
        default=None, description="Within a queue, keys take turns.", examples=["customer-42"])
    tags: list[PrintableText] | None = Field(default=None, max_length=TAGS_MAX, examples=[["customer-42"]])
    max_deliveries: Annotated[int, Field(ge=1, le=1_000_000_000), WHOLE] | None = Field(
        default=None, description="1: never run again when the fate of a run is unknown.")
    max_memory: Memory | None = Field(
        default=None, description="Of a run with all that it starts: bytes, or text such as 512M; 0 is no limit.",
        examples=["512M"])
    max_cpu_seconds: Seconds | None = Field(
        default=None, examples=[60], description="Of a run with all that it starts; 0 is no limit.")
    max_processes: Count | None = Field(default=None, description="Of a run, its worker included; 0 is no limit.")
    nice: Nice | None = Field(default=None, description="How far it steps back for others.")
    result_ttl: Seconds | None = Field(
        default=None, examples=[86400], description="Seconds it is kept after it completed.")
    traceparent: str | None = Field(
        default=None, pattern=TRACEPARENT, description="W3C trace context, which reaches the handler; as the header.",
        examples=["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"])
    durability: Literal["fsync"] | None = Field(
        default=None, description="fsync: answer only when it is on Redis's disk; 503 if this Redis cannot say so.")
    webhook: TaskWebhook | None = Field(default=None, description="Where to tell of the end of this task.")

    def options(self) -> dict[str, Any]:
        """As the client takes it."""
        given: dict[str, Any] = {
            name: value for name in self.model_fields_set - {"webhook"}
            if (value := getattr(self, name)) is not None or name == "payload"}
        if self.webhook is not None:
            given["webhook"] = self.webhook.stored()
        return given


class TaskUpdate(RequestModel):
    """What to change of a task that has not started; null takes what was said away."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"priority": "URGENT", "timeout": 120}]})

    priority: Priority | None = Field(default=None, examples=["URGENT"])
    name: PrintableText | None = None
    tags: list[PrintableText] | None = Field(default=None, max_length=TAGS_MAX)
    timeout: Seconds | None = None
    soft_timeout: Seconds | None = None
    max_retries: Count | None = Field(default=None, examples=[3])
    max_memory: Memory | None = Field(default=None, examples=["512M"])
    max_cpu_seconds: Seconds | None = None
    max_processes: Count | None = None
    nice: Nice | None = None
    result_ttl: Seconds | None = None


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
        return cls(id=stored.id, status=stored.life.status, run=stored.life.run, progress=progress)


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
        return cls(id=stored.id, status=stored.life.status, result=outcome.get("result"),
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
