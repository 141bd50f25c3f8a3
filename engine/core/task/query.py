"""Which tasks somebody looks for, and whether a stored task is one of them. The one predicate of every search."""

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from engine.core.task.lifecycle import TaskStatus
from engine.core.task.outcome import is_quarantined
from engine.core.task.priority import TaskPriority
from engine.core.task.stored_task import StoredTask

EVER = (float("-inf"), float("inf"))

RangeMs = tuple[float, float]  # of Redis's clock, both ends included


class Order(Enum):
    """In which order a search gives tasks. Ids sort by the time of submission."""

    NEWEST = "newest submitted first"
    OLDEST = "oldest submitted first"
    ANY = "as they are stored, which is the cheapest; the newest first where that costs little"


@dataclass(frozen=True, slots=True)
class TaskQuery:
    """Only tasks that agree with all that is given. `queues` are those that the caller may see, if not all."""

    statuses: tuple[TaskStatus, ...] = ()
    task_type: str | None = None
    queue: str | None = None
    queues: frozenset[str] | None = None
    priority: TaskPriority | None = None
    name: str | None = None
    tags: frozenset[str] = frozenset()
    quarantined: bool | None = None  # set aside, having cost too many workers
    text: str | None = None  # in the name, the type, a tag, the payload or the error; upper and lower case are the same
    created_ms: RangeMs = EVER
    started_ms: RangeMs = EVER
    ended_ms: RangeMs = EVER
    order: Order = Order.NEWEST

    def matches(self, stored: StoredTask) -> bool:
        record, options = stored.record, stored.record.options
        return ((not self.statuses or stored.state.status in self.statuses)
                and self.task_type in (None, record.task_type)
                and self.queue in (None, record.queue)
                and (self.queues is None or record.queue in self.queues)
                and self.priority in (None, stored.state.priority)
                and self.name in (None, options.get("name"))
                and self.tags.issubset(options.get("tags", ()))
                and self.quarantined in (None, is_quarantined(stored.state.status, stored.outcome))
                and _within(record.created_ms, self.created_ms)
                and _within(_started_ms(stored), self.started_ms)
                and _within((stored.outcome or {}).get("ended_ms"), self.ended_ms)
                and (self.text is None or _contains(stored, self.text.casefold())))


class QueryPage(NamedTuple):
    """Some of the tasks that match. A page may be short, or empty, and still have a next one."""

    tasks: list[StoredTask]
    cursor: str | None  # of the next page; None after the last
    is_sorted: bool = True  # False where there were too many candidates to put in order, or no order was asked for


def _within(moment_ms: float | None, bounds: RangeMs) -> bool:
    return bounds == EVER or (moment_ms is not None and bounds[0] <= moment_ms <= bounds[1])


def _started_ms(stored: StoredTask) -> float | None:
    if stored.state.status is TaskStatus.RUNNING:
        return stored.state.at_ms
    started: float | None = (stored.outcome or {}).get("started_ms")
    return started


def _contains(stored: StoredTask, text: str) -> bool:
    options, error = stored.record.options, (stored.outcome or {}).get("error") or {}
    parts = (options.get("name", ""), stored.record.task_type, *options.get("tags", ()), error.get("kind") or "",
             error.get("message") or "", stored.record.payload.decode(errors="replace"))
    return any(text in part.casefold() for part in parts)
