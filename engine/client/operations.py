"""The verbs of tasks for a server: for many callers in one round trip, and for many tasks.

The API uses them beside a client, and needs an engine in Redis.
"""

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Literal

from engine.client import idempotency
from engine.client.client import Client
from engine.client.waiting import known_id
from engine.core.task.lifecycle import MOVES, Move, TaskStatus
from engine.core.task.options import amendable
from engine.core.task.priority import TaskPriority
from engine.core.task.query import QueryPage, TaskQuery
from engine.core.task.state import StoredState
from engine.core.task.stored_task import StoredTask
from engine.core.task.task_id import is_task_id
from engine.errors import IdempotencyConflict, MoveRefused, TaskNotFound
from engine.ports.client_broker import Submission
from engine.ports.engine_broker import EngineBroker, EngineBrokerProvider
from engine.tasks import options as check

Operation = Literal["cancel", "retry", "delete", "priority"]


class TaskOperations:
    """Checks, writes, selects and changes many tasks. Threads may share it. Every method may raise `BrokerError`."""

    def __init__(self, client: Client, provider: EngineBrokerProvider) -> None:
        self._client, self._provider = client, provider

    # -- submit ---------------------------------------------------------------------------------------------------

    def prepare(self, task: Mapping[str, Any]) -> Submission:
        """Check one task, given as to `submit_many`, and write nothing.

        Raises a subclass of `InvalidInput`, or `DurabilityUnavailable`. It is raised here, so that only this task is
        refused and not the others that are written with it.
        """
        if task.get("durability") is not None:
            self._provider.broker().check_durability()
        return self._client.tasks.prepare(task)

    def write(self, submissions: Sequence[Submission]) -> list[StoredTask | IdempotencyConflict]:
        """Write prepared tasks in one round trip.

        Returns the tasks in order. Where the queue knows the idempotency key, the earlier task is returned, or an
        `IdempotencyConflict` if the earlier task has another type or payload. A delayed task is read back, since only
        Redis knows the moment when it was written.
        """
        broker = self._provider.broker()
        ids = broker.submit(submissions)
        earlier = [task_id for task_id, made in zip(ids, submissions, strict=True)
                   if task_id != made.id or "due_ms" in made.record.options]
        known = dict(zip(earlier, broker.read(earlier), strict=True)) if earlier else {}
        return [idempotency.conflict(made, known.get(task_id)) or known.get(task_id) or fresh(made._replace(id=task_id))
                for task_id, made in zip(ids, submissions, strict=True)]

    def conflicts(self, submissions: Sequence[Submission]) -> list[IdempotencyConflict | None]:
        """Return for each task what is wrong with its idempotency key, None where nothing is. Nothing is written."""
        return idempotency.conflicts(self._provider.broker(), submissions)

    # -- read -----------------------------------------------------------------------------------------------------

    def read(self, task_ids: Sequence[str]) -> list[StoredTask | None]:
        """Return tasks as they are now, None where there is none or the id cannot be one."""
        return read_tasks(self._provider.broker(), task_ids)

    # -- change one task ------------------------------------------------------------------------------------------

    def amend(self, task_id: str, changes: Mapping[str, Any], versions: Collection[str] | None = None) -> StoredTask:
        """Change name, tags, limits or priority of a task that has not started; None removes what was given.

        Args:
            task_id: the id of the task.
            changes: options by name, as `submit` takes them.
            versions: the versions in which the caller has seen the task; None: any.

        Returns:
            The task as it is afterwards.

        Raises:
            ChangedMeanwhile: the task is in none of these versions.
            MoveRefused: it runs or has ended.
            TaskNotFound: there is no such task.
            InvalidOption: a value is not acceptable.
        """
        broker, known = self._provider.broker(), known_id(task_id)
        options = amendable()
        if unknown := changes.keys() - options.keys():
            raise check.unknown(min(unknown), options, "a change of a task")
        values = {options[name].key or name: None if value is None else check.CHECKS[name](value)
                  for name, value in changes.items()}
        priority = values.pop("priority", None)
        broker.amend(known, values, priority, versions)
        stored = broker.read([known])[0]
        if stored is None:
            raise TaskNotFound(task_id)
        return stored

    # -- change many ----------------------------------------------------------------------------------------------

    def search(self, query: TaskQuery, limit: int, cursor: str | None = None) -> QueryPage:
        """Return one page of the tasks that match. Raises `InvalidOption` for a cursor that no page gave."""
        return self._provider.broker().search(query, limit, cursor)

    def select(self, query: TaskQuery, operation: Operation, limit: int) -> tuple[list[StoredTask], bool]:
        """Return up to `limit` tasks that match and allow the operation now, and whether these are all of them."""
        statuses = tuple(status for status in query.statuses or TaskStatus if _allows(status, operation))
        if not statuses:
            return [], True
        query, cursor = replace(query, statuses=statuses), None
        found: dict[str, StoredTask] = {}
        while len(found) < limit:
            page = self.search(query, limit - len(found), cursor)
            found |= {stored.id: stored for stored in page.tasks}
            cursor = page.cursor
            if cursor is None:
                break
        return list(found.values()), len(found) < limit

    def apply(self, selected: Sequence[StoredTask], operation: Operation, *, reason: str = "cancelled in a batch",
              priority: TaskPriority = TaskPriority.NORMAL) -> int:
        """Do the operation to each task; return to how many it was done. Tasks that have moved on are passed over."""
        ids, tasks = [stored.id for stored in selected], self._client.tasks
        if operation == "delete":
            return tasks.delete(ids)
        if operation == "retry":
            return self._provider.broker().requeue_many(ids)
        done = 0
        for task_id in ids:
            with suppress(MoveRefused, TaskNotFound):
                if operation == "cancel":
                    tasks.cancel(task_id, reason)
                else:
                    tasks.set_priority(task_id, priority)
                done += 1
        return done


def read_tasks(broker: EngineBroker, task_ids: Sequence[str]) -> list[StoredTask | None]:
    """Return tasks as they are now, None where there is none or the id cannot be one. Raises `BrokerError`."""
    ids = [task_id for task_id in task_ids if is_task_id(task_id)]
    found = dict(zip(ids, broker.read(ids), strict=True)) if ids else {}
    return [found.get(task_id) for task_id in task_ids]


def _allows(status: TaskStatus, operation: Operation) -> bool:
    match operation:
        case "cancel":
            return Move.CANCEL in MOVES[status]
        case "retry":
            return Move.REQUEUE in MOVES[status]
        case "delete":
            return status.is_final
        case "priority":
            return not status.is_final and status is not TaskStatus.RUNNING


def fresh(made: Submission) -> StoredTask:
    """Return a task as it is the moment after it was submitted."""
    record = made.record
    status = TaskStatus.PENDING if "due_ms" in record.options else TaskStatus.QUEUED
    return StoredTask(made.id, record, StoredState(status, priority=record.priority, at_ms=record.created_ms))
