"""Which tasks: the filter of `tasks`, `page` and `retry_many`, checked at the door."""

from collections.abc import Mapping
from typing import Any, TypedDict

from engine.core.task.lifecycle import TaskStatus
from engine.core.task.names import check_queue_name
from engine.core.task.priority import TaskPriority
from engine.core.task.query import Order, TaskQuery
from engine.tasks import options as check


class Filter(TypedDict, total=False):
    """Only tasks that agree with all that is given."""

    status: TaskStatus | str | None
    type: str | None  # the same as task_type
    task_type: str | None
    queue: str | None
    priority: TaskPriority | str | int | None
    name: str | None
    tag: str | None
    quarantined: bool | None  # set aside, having cost as many workers as it may


def query_of(given: Mapping[str, Any]) -> TaskQuery:
    """The query of a filter. Raises `InvalidOption` that names what is wrong."""
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
