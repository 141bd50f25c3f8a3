"""Which tasks, and what is to be done to them."""

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, ConfigDict, Field

from engine.core.task.lifecycle import TaskStatus
from engine.core.task.options import TAGS_MAX
from engine.core.task.priority import TaskPriority
from engine.core.task.query import Order, TaskQuery
from engine.services.api.http.problems import Problem
from engine.services.api.models.base import (
    CURSOR,
    WHOLE,
    PrintableText,
    Priority,
    Queue,
    RequestModel,
    ResponseModel,
    Text,
)
from engine.services.api.models.tasks import TaskCreate, TaskResponse

PAGE_MAX = 500
BATCH_MAX = 1_000
OPERATED_MAX = 10_000


class TaskFilter(RequestModel):
    """Tasks match if they match every field that is set."""

    model_config = ConfigDict(extra="forbid", strict=False, json_schema_extra={"examples": [
        {"status": ["FAILED", "TIMEOUT"], "queue": "images", "created_after": "2026-01-01T00:00:00Z"}]})

    status: list[TaskStatus] | None = Field(default=None, max_length=8, examples=[["FAILED", "TIMEOUT"]])
    task_type: Text | None = None
    queue: Queue | None = None
    priority: Priority | None = None
    name: Text | None = Field(default=None, description="The whole name.")
    tags: list[Text] | None = Field(default=None, max_length=TAGS_MAX, description="All of them.")
    quarantined: bool | None = Field(
        default=None, description="Whether it was set aside, having cost as many workers as it may.")
    text: Text | None = Field(default=None, description="In the name, type, tags, payload or error; in any case.")
    created_after: AwareDatetime | None = None
    created_before: AwareDatetime | None = None
    started_after: AwareDatetime | None = None
    started_before: AwareDatetime | None = None
    ended_after: AwareDatetime | None = None
    ended_before: AwareDatetime | None = None

    def wanted(self, queues: frozenset[str] | None, *, oldest_first: bool = False) -> TaskQuery:
        """As the client takes it; `queues` are those that the caller may see."""
        return TaskQuery(
            statuses=tuple(dict.fromkeys(self.status or ())), task_type=self.task_type, queue=self.queue, queues=queues,
            priority=None if self.priority is None else TaskPriority.parse(self.priority), name=self.name,
            tags=frozenset(self.tags or ()), quarantined=self.quarantined, text=self.text,
            created_ms=_range(self.created_after, self.created_before),
            started_ms=_range(self.started_after, self.started_before),
            ended_ms=_range(self.ended_after, self.ended_before), order=Order.OLDEST if oldest_first else Order.NEWEST)


class TaskSearch(TaskFilter):
    """A filter, an order and a page."""

    sort: Literal["-created", "created"] = Field(default="-created", description="The newest first, or the oldest.")
    limit: Annotated[int, Field(ge=1, le=PAGE_MAX), WHOLE] = 100
    cursor: str | None = Field(default=None, max_length=200, pattern=CURSOR, description="`next` of the page before.")


class TaskPage(ResponseModel):
    """Some of the tasks that agree."""

    tasks: list[TaskResponse]
    next: str | None = Field(default=None, description="The cursor of the next page; null after the last. "
                             "A page may have fewer tasks than asked for and still a next one.")
    is_sorted: bool = Field(default=True, description="False where there are too many candidates to put in order.")


class TaskBatch(RequestModel):
    """Tasks to submit in one call."""

    tasks: list[TaskCreate] = Field(min_length=1, max_length=BATCH_MAX)
    all_or_nothing: bool = Field(default=False, description="Submit none of them unless all are acceptable.")


class TaskBatchEnvelope(RequestModel):
    """The same before its tasks were looked at: each has its own result."""

    is_plain = True

    tasks: list[Any] = Field(min_length=1, max_length=BATCH_MAX)
    all_or_nothing: bool = False


class BatchItem(ResponseModel):
    """The result of one task of a batch."""

    index: int
    status: int = Field(examples=[201], description="What a submit of this task alone would have answered.")
    id: str | None = None
    problem: Problem | None = None


class BatchResult(ResponseModel):
    """The result of each task of a batch, in order."""

    submitted: int
    refused: int
    items: list[BatchItem]


class BatchOperation(RequestModel):
    """Something to do to every task that agrees with a filter."""

    filter: TaskFilter = Field(default_factory=lambda: TaskFilter())
    dry_run: bool = Field(default=False, description="Only count.")
    limit: Annotated[int, Field(ge=1, le=OPERATED_MAX), WHOLE] = Field(
        default=1_000, description="Look at as many tasks that agree, at most.")
    reason: PrintableText = Field(default="cancelled over the API", description="Of a cancel.")


class PriorityOperation(BatchOperation):
    """A new priority for every task that agrees with a filter and has not started."""

    priority: Priority


class BatchReport(ResponseModel):
    """What was done, or would be."""

    matched: int = Field(description="Tasks that agree and to which it can be done.")
    done: int = Field(description="Tasks to which it was done; 0 in a dry run.")
    dry_run: bool
    is_complete: bool = Field(description="False if there may be more beyond the limit.")


def _range(after: AwareDatetime | None, before: AwareDatetime | None) -> tuple[float, float]:
    return (float("-inf") if after is None else after.timestamp() * 1000,
            float("inf") if before is None else before.timestamp() * 1000)
