"""`ganger tasks`: the tasks that match."""

from typing import TYPE_CHECKING

import typer

from engine.cli.filters import (
    LimitOption,
    NameOption,
    PriorityOption,
    QuarantinedOption,
    QueueOption,
    StatusOption,
    TagOption,
    TypeOption,
    given_filter,
)
from engine.cli.output import duration
from engine.cli.session import Session, command

if TYPE_CHECKING:
    from engine.client.models import Task

_EXAMPLES = """
ganger tasks
ganger tasks --status FAILED --type thumbnail --limit 20
ganger tasks --quarantined
ganger tasks --json | jq -r '.[].id'
"""
_HEADINGS = ("id", "type", "name", "status", "priority", "queue", "run", "age", "took", "error")


def add_to(app: typer.Typer) -> None:
    command(app, "tasks", examples=_EXAMPLES)(tasks)


def tasks(
    session: Session, status: StatusOption = None, task_type: TypeOption = None, queue: QueueOption = None,
    priority: PriorityOption = None, name: NameOption = None, tag: TagOption = None,
    quarantined: QuarantinedOption = False, limit: LimitOption = 100,
) -> None:
    """List the tasks that match, the newest first where that is cheap to know."""
    chosen = given_filter(status=status, task_type=task_type, queue=queue, priority=priority, name=name, tag=tag,
                          quarantined=quarantined)
    with session.client() as client:
        found = client.tasks(limit=limit, **chosen)
    if session.out.as_json:
        session.out.json(found)
    elif found:
        session.out.table(_HEADINGS, map(_row, found), right=("run", "age", "took"), cut=("type", "name", "error"),
                          leave_out=("name", "run", "queue", "priority", "took", "age", "type", "error"))
    else:
        session.out.note("no task matches")


def _row(task: "Task") -> tuple[object, ...]:
    from datetime import UTC, datetime

    age_s = (datetime.now(UTC) - task.created_at).total_seconds()
    error = f"{task.error.kind}: {task.error.message}".splitlines()[0][:60] if task.error else ""
    return (task.id, task.task_type, task.name, task.status, task.priority.name, task.queue, task.run or "",
            duration(max(0.0, age_s)), duration(task.wall_s), error)
