"""The result of a task that has ended: its value, or the error that says why there is none."""

from collections.abc import Mapping
from typing import Any

from engine.core.task.lifecycle import TaskStatus
from engine.errors import TaskCancelled, TaskFailed, TaskTimedOut

_ERRORS: dict[TaskStatus, type[TaskFailed]] = {TaskStatus.TIMEOUT: TaskTimedOut, TaskStatus.CANCELLED: TaskCancelled}


def value_of(task_id: str, status: TaskStatus, outcome: Mapping[str, Any] | None) -> Any:
    """Return what the handler returned. Raises `TaskFailed`, `TaskTimedOut` or `TaskCancelled`."""
    assert status.is_final, status
    if status is TaskStatus.COMPLETED and not (outcome or {}).get("error"):  # with an error, its outcome cannot be read
        return (outcome or {}).get("result")
    raise _ERRORS.get(status, TaskFailed)(task_id, status, dict(outcome or {}))
