"""What a client returns of tasks, queues and pools: frozen pydantic models, the same for Python, CLI and API.

Only `Task.of` makes a Task of a stored record, state and outcome.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar, Literal, Self, cast

import orjson
from pydantic import BaseModel, ConfigDict, field_serializer, field_validator

from engine.client.deferred import Deferred
from engine.core.task.lifecycle import TaskStatus
from engine.core.task.outcome import is_quarantined
from engine.core.task.priority import TaskPriority
from engine.core.task.stored_task import StoredTask
from engine.ports.client_broker import RawTask


class Model(BaseModel):
    model_config = ConfigDict(frozen=True)


class TaskError(Model):
    """Why the latest run did not complete. `kind` is the class of an exception, or a word of the engine's own."""

    kind: str
    message: str
    traceback: str | None = None


class Progress(Model):
    """The latest progress that the handler has reported."""

    fraction: float | None = None
    message: str | None = None
    at: datetime | None = None


class Task(Deferred, Model):
    """A task as it is now. Times are UTC, durations seconds, memory bytes; None is not known, or not yet."""

    id: str
    name: str | None = None
    task_type: str
    status: TaskStatus
    priority: TaskPriority
    queue: str
    payload: Any = None
    attempts: int = 0  # runs that ended in the handler's own failure
    crashes: int = 0  # runs that ended with a dead worker
    run: int = 0  # number of the latest run
    result: Any = None
    error: TaskError | None = None
    cause: str | None = None  # why the latest run ended
    progress: Progress | None = None
    created_at: datetime
    due_at: datetime | None = None  # not to be started before
    expires_at: datetime | None = None
    started_at: datetime | None = None  # of the latest run
    ended_at: datetime | None = None  # of the latest run
    wait_s: float | None = None  # from the moment it could have been started to its start
    wall_s: float | None = None
    cpu_s: float | None = None
    peak_rss_bytes: int | None = None
    worker: str | None = None
    pid: int | None = None
    quarantined: bool = False  # set aside, having cost as many workers as it may; what each run did is in its outcomes
    post_mortem: dict[str, Any] | None = None  # of a run that was killed or crashed: its stacks, what killed it
    tags: list[str] = []
    fair_key: str | None = None

    @field_validator("priority", mode="before")
    @classmethod
    def _priority_of_name(cls, priority: Any) -> TaskPriority:
        return TaskPriority.parse(priority)

    @field_serializer("priority")
    def _priority_name(self, priority: TaskPriority) -> str:
        return priority.name

    @classmethod
    def of(cls, stored: StoredTask) -> Self:
        """The task of a stored record, state and outcome."""
        return cls.made(_values(stored))

    @classmethod
    def unread(cls, raw: RawTask, status: TaskStatus) -> Self:
        """As `of`, but what Redis holds is read when a field is asked for. Most callers look at little of a task."""
        return cls.later(raw, {"id": raw.id, "status": status})

    @classmethod
    def read(cls, source: RawTask) -> dict[str, Any]:
        return _values(source.stored())

    read_alone: ClassVar[Mapping[str, Callable[[RawTask], Any]]] = {
        "result": lambda raw: raw.result()}


def _values(stored: StoredTask) -> dict[str, Any]:
    """The fields of a Task. What was stored was checked as it was read (core/task/stored_json.py)."""
    record, state, options = stored.record, stored.state, stored.record.options
    outcome: Mapping[str, Any] = stored.outcome or _NO_OUTCOME
    of_outcome, option = outcome.get, cast(Mapping[str, Any], options).get
    running = state.status is TaskStatus.RUNNING
    started_ms, ended_ms = (state.at_ms, None) if running else (of_outcome("started_ms"), of_outcome("ended_ms"))
    due_ms, expires_ms, tags = option("due_ms"), option("expires_ms"), option("tags")
    error, wall_s, cpu_s, created_ms = of_outcome("error"), of_outcome("wall_s"), of_outcome("cpu_s"), record.created_ms
    return {
        "id": stored.id, "name": option("name"), "task_type": record.task_type, "status": state.status,
        "priority": state.priority, "queue": record.queue, "payload": _payload(record.payload),
        "attempts": state.attempts, "crashes": state.crashes, "run": state.run,
        "result": of_outcome("result"), "error": TaskError(**error) if error else None, "cause": of_outcome("cause"),
        "progress": _progress(stored.progress) if stored.progress else None,
        "created_at": moment(created_ms), "due_at": _moment(due_ms), "expires_at": _moment(expires_ms),
        "started_at": _moment(started_ms), "ended_at": _moment(ended_ms),
        "wait_s": _wait_s(created_ms, due_ms, started_ms, state.run),
        "wall_s": None if wall_s is None else float(wall_s), "cpu_s": None if cpu_s is None else float(cpu_s),
        "peak_rss_bytes": of_outcome("peak_rss_bytes"), "worker": state.owner if running else of_outcome("worker"),
        "pid": of_outcome("pid"), "quarantined": is_quarantined(state.status, outcome),
        "post_mortem": of_outcome("post_mortem"),
        "tags": list(tags) if tags else [], "fair_key": option("fair_key")}


_NO_OUTCOME: Mapping[str, Any] = {}


class QueueStats(Model):
    """One queue: what waits in it, by priority."""

    model_config = ConfigDict(frozen=True, extra="allow")

    queue: str
    paused: bool = False
    queued: dict[str, int] = {}  # by the name of the priority
    oldest_s: float | None = None  # how long the first of these tasks has waited
    aside: dict[str, int] = {}  # how many of them wait for a pool that knows their type, by type

    @property
    def total(self) -> int:
        """How many tasks wait in the queue."""
        return sum(self.queued.values())


class EngineStatus(Model):
    """What the engine of a Scheduler does."""

    state: Literal["stopped", "running", "failed"]
    pid: int | None = None  # of the root process
    exit_code: int | None = None  # of a root process that ended by itself
    pools: list[dict[str, Any]] = []  # the reports of its supervisors, with their slots
    workers: int = 0
    busy: int = 0  # workers that run a task
    tasks: dict[str, int] = {}  # by status; of all that use this Redis
    redis_error: str | None = None  # why pools and tasks are not known, if they are not


class LogLine(Model):
    """One line that a run printed or logged."""

    at: datetime
    run: int
    stream: str  # stdout, stderr or log
    level: str | None = None
    text: str

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "LogLine":
        return cls(at=moment(row["at_ms"]), run=row["run"], stream=row["stream"], level=row.get("level"),
                   text=row["text"])


def moment(at_ms: float) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, UTC)


def _moment(at_ms: float | None) -> datetime | None:
    return None if at_ms is None else moment(at_ms)


def _wait_s(created_ms: int, due_ms: int | None, started_ms: float | None, run: int) -> float | None:
    """Return the wait of the first run, in seconds. The wait of a later run would include the run before it."""
    if started_ms is None or run != 1:
        return None
    return max(0.0, (started_ms - max(created_ms, due_ms or 0)) / 1000)


def _payload(text: bytes) -> Any:
    """Return the payload; as text where it is not JSON, since the run that gets it will fail and report that."""
    try:
        return orjson.loads(text)
    except ValueError:
        return text.decode(errors="replace")


def _progress(stored: Mapping[str, Any]) -> Progress:
    return Progress(fraction=stored.get("fraction"), message=stored.get("message"), at=_moment(stored.get("at_ms")))
