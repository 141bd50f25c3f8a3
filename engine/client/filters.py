"""The filters of `find`, `page` and `retry_many`, and their checks."""

from collections.abc import Mapping
from typing import Any, TypedDict

from engine.core.task.lifecycle import TaskStatus
from engine.core.task.names import check_queue_name
from engine.core.task.priority import TaskPriority
from engine.core.task.query import Order, TaskQuery
from engine.tasks import options as check


class Filter(TypedDict, total=False):
    """Selects the tasks that match every filter that is given. None is the same as left out."""

    status: TaskStatus | str | None
    type: str | None  # the same as task_type
    task_type: str | None
    queue: str | None
    priority: TaskPriority | str | int | None
    name: str | None
    tag: str | None
    quarantined: bool | None  # failed for good, because its runs cost too many workers


def query_of(given: Mapping[str, Any]) -> TaskQuery:
    """Return the query of the filters. Raises `InvalidOption` with the name of the wrong one."""
    found: dict[str, Any] = {}
    for name, value in given.items():
        if name not in Filter.__annotations__:
            raise check.unknown(name, Filter.__annotations__, "a filter of tasks")
        if value is None:
            continue
        if name == "status":
            found["statuses"] = (status(value),)
        elif name == "quarantined":
            found[name] = check.boolean(value, name)
        elif name == "priority":
            found[name] = check.priority(value)
        elif name == "queue":
            found[name] = check_queue_name(value)
        elif name == "tag":
            found["tags"] = frozenset({check.text(value, name)})
        else:
            found["task_type" if name == "type" else name] = check.text(value, name)
    return TaskQuery(**found, order=Order.ANY)


def status(value: Any) -> TaskStatus:
    try:
        return TaskStatus(value.upper())
    except (ValueError, AttributeError):
        raise check.refuse("status", value, "one of " + ", ".join(TaskStatus)) from None
