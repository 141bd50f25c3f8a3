"""`client.tasks`: submits tasks, reads them, waits for them and changes them.

Each method is a few lines: check the arguments, ask the broker, make models of the answer. Ids that cannot be ids are
ids of no task. Every method may raise `BrokerError` (`BrokerUnavailable`, `BrokerFull` …) within `submit_timeout_s`
seconds; those that wait, at the end of the wait.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from itertools import starmap
from typing import Any, Unpack

from engine.client import waiting
from engine.client.filters import Filter, query_of
from engine.client.models import LogLine, Task
from engine.client.submission import SubmissionFactory
from engine.client.waiting import known_id, wait_seconds
from engine.core.task.lifecycle import TaskStatus
from engine.core.task.priority import TaskPriority
from engine.core.task.query import TaskQuery
from engine.core.task.stored_task import StoredTask
from engine.errors import MoveRefused, ResultNotReady, TaskNotFound
from engine.ports.client_broker import BrokerProvider, Submission
from engine.tasks import options as check
from engine.tasks.handler_spec import NO_PAYLOAD
from engine.tasks.options import SubmitOptions

PAGE_TASKS_MAX = 500  # tasks that `find` reads in one round trip


class TasksClient:
    """The verbs of tasks. A `Client` makes it; any number of threads may share it."""

    def __init__(self, provider: BrokerProvider, factory: SubmissionFactory) -> None:
        self._provider, self._factory = provider, factory

    # -- submit ---------------------------------------------------------------------------------------------------

    def submit(self, task_type: Any, payload: Any = NO_PAYLOAD, **options: Unpack[SubmitOptions]) -> str:
        """Submit one task. When it returns, the task is in Redis.

        Args:
            task_type: the name of a handler, or the handler itself.
            payload: anything that JSON can say; left out, the handler gets `{}`.
            **options: see `SubmitOptions`; times are in seconds.

        Returns:
            The id of the task, or the id of the earlier task of this queue with the same `idempotency_key`.

        Raises:
            InvalidInput: one of its subclasses, which names the field; nothing has been written then.
        """
        task = self._factory.make(task_type, payload, options, self._provider.now_ms())
        return self._provider.broker().submit([task])[0]

    def submit_many(self, tasks: Iterable[Mapping[str, Any]]) -> list[str]:
        """Submit tasks, a few hundred in one round trip. All are checked before the first is written.

        Args:
            tasks: mappings with `task_type`, `payload` and the options of `submit`.

        Returns:
            The ids, in the order of the tasks.

        Raises:
            InvalidInput: as `submit`; the field names the index, such as `tasks[3].queue`.
        """
        return self._provider.broker().submit(self._factory.make_many(tasks, self._provider.now_ms()))

    def prepare(self, task: Mapping[str, Any]) -> Submission:
        """Check one task, given as to `submit_many`, and write nothing. Raises a subclass of `InvalidInput`."""
        options = {name: value for name, value in task.items() if name not in ("task_type", "payload")}
        payload, now_ms = task.get("payload", NO_PAYLOAD), self._provider.now_ms()
        return self._factory.make(task.get("task_type"), payload, options, now_ms)

    # -- read -----------------------------------------------------------------------------------------------------

    def get(self, task_id: str) -> Task:
        """Return a task as it is now. Raises `TaskNotFound`."""
        return Task.of(self._stored(task_id))

    def status(self, task_id: str) -> TaskStatus:
        """Return the status of a task. Raises `TaskNotFound`."""
        return TaskStatus(self._stored(task_id).state.status)

    def find(self, *, limit: int = 100, **matching: Unpack[Filter]) -> list[Task]:
        """Return up to `limit` tasks that match, the newest first where Redis knows that order.

        Args:
            limit: how many tasks at most.
            **matching: see `Filter`; a task has to agree with everything that is given.

        Raises:
            InvalidOption: for a filter or a value that there is not.
        """
        return self._search(query_of(matching), check.count(limit, "limit", 1))

    __call__ = find  # `client.tasks(status="FAILED")`

    def page(self, *, limit: int = 100, cursor: str | None = None,
             **matching: Unpack[Filter]) -> tuple[list[Task], str | None]:
        """Return one page of what `find` returns, and the cursor for the next page.

        A page may be short, or empty, and still have a next one. The cursor is None after the last page.

        Args:
            limit: how many tasks at most.
            cursor: what the call before returned; None for the first page.
            **matching: see `Filter`.

        Raises:
            InvalidOption: for a filter, a value or a cursor that there is not.
        """
        page = self._provider.broker().search(query_of(matching), check.count(limit, "limit", 1), cursor)
        return [Task.of(stored) for stored in page.tasks], page.cursor

    def logs(self, task_id: str, start: int = 0) -> list[LogLine]:
        """Return what the runs of a task printed and logged, from line `start`; also while it runs.

        Raises `TaskNotFound`.
        """
        rows = self._provider.broker().log(known_id(task_id), check.count(start, "start"))
        if not rows:
            self._stored(task_id)
        return [LogLine.of(row) for row in rows]

    def outcomes(self, task_id: str) -> list[dict[str, Any]]:
        """Return how each run of a task ended, the first run first. Raises `TaskNotFound`."""
        self._stored(task_id)
        return self._provider.broker().outcomes(task_id)

    def reason(self, task_id: str) -> str | None:
        """Return what a queued task waits for, where that is more than its turn.

        Its queue may be paused; there may be no pool that runs, knows its type or serves its queue; or no worker can
        start. None for any other task, and where there is no such task.
        """
        stored = self._provider.broker().read([known_id(task_id)])[0]
        return None if stored is None else self._provider.broker().reason(stored)

    # -- wait -----------------------------------------------------------------------------------------------------

    def result(self, task_id: str, wait: float | None = None) -> Any:
        """Return what the handler returned.

        A Redis that goes away and comes back during the wait is waited for.

        Args:
            task_id: the id of the task.
            wait: how many seconds to wait for its end; None or 0: not at all.

        Raises:
            TaskFailed, TaskTimedOut, TaskCancelled: the task ended without a result.
            ResultNotReady: it has not ended in time.
            TaskNotFound: there is no such task.
        """
        wait_s = 0.0 if wait is None else wait_seconds(wait, "wait")
        status, outcome = waiting.await_outcome(self._provider, known_id(task_id), wait_s)
        if not status.is_final:
            raise ResultNotReady(task_id, status, wait_s)
        return waiting.value_of(task_id, status, outcome)

    def results(self, task_ids: Iterable[str], timeout: float | None = None) -> Iterator[Any]:
        """Yield what the handlers returned, in the order of the ids, each once it is there. Payloads are not read.

        Args:
            task_ids: the ids.
            timeout: seconds for all of them together; None: wait without end.

        Raises:
            TaskFailed, TaskTimedOut, TaskCancelled: at the first task that has no result.
            ResultNotReady: some have not ended in time.
            TaskNotFound: there is no such task.
        """
        ids, wait_s = [known_id(task_id) for task_id in task_ids], wait_seconds(timeout, "timeout")
        return waiting.in_order(self._provider, ids, wait_s)

    def wait(self, task_ids: Iterable[str], timeout: float | None = None) -> list[Task]:
        """Wait until all tasks have ended, or `timeout` seconds (None: without end).

        Returns the tasks in the order of the ids, as they are then. Raises `TaskNotFound` at once for an id that there
        is not.
        """
        ids, wait_s = [known_id(task_id) for task_id in task_ids], wait_seconds(timeout, "timeout")
        return waiting.await_all(self._provider, ids, wait_s)

    def as_completed(self, task_ids: Iterable[str], timeout: float | None = None) -> Iterator[Task]:
        """Yield each task once it has ended, the first to end first; each id once.

        Tasks are read as they end and are not kept, so there may be any number of them.

        Args:
            task_ids: the ids.
            timeout: seconds for all of them together; None: wait without end.

        Raises:
            ResultNotReady: some have not ended in time.
            TaskNotFound: there is no such task.
        """
        ids, wait_s = [known_id(task_id) for task_id in task_ids], wait_seconds(timeout, "timeout")
        return starmap(Task.unread, waiting.as_completed(self._provider, ids, wait_s))

    # -- change ---------------------------------------------------------------------------------------------------

    def cancel(self, task_id: str, reason: str = "cancelled by a client") -> TaskStatus:
        """End a task before it has ended by itself.

        Args:
            task_id: the id of the task.
            reason: the message of the task's error.

        Returns:
            CANCELLED for a task that waited; RUNNING for one that runs, until its worker has stopped it.

        Raises:
            MoveRefused: it has ended already.
            TaskNotFound: there is no such task.
        """
        return self._provider.broker().cancel(known_id(task_id), check.text(reason, "reason"))

    def retry(self, task_id: str) -> None:
        """Queue a task again that FAILED, was CANCELLED or timed out, with all its retries.

        Raises `MoveRefused` if its status is another one, `TaskNotFound`.
        """
        self._provider.broker().requeue(known_id(task_id))

    def retry_many(self, *, limit: int = 10_000, **matching: Unpack[Filter]) -> list[str]:
        """Retry up to `limit` tasks that match (see `Filter`), by default those that FAILED; return their ids.

        Tasks that somebody else has moved on meanwhile are passed over.
        """
        query = query_of(matching)
        if not query.statuses:
            query = replace(query, statuses=(TaskStatus.FAILED,))
        queued = []
        for task_id in [task.id for task in self._search(query, check.count(limit, "limit", 1))]:
            with suppress(MoveRefused, TaskNotFound):
                self.retry(task_id)
                queued.append(task_id)
        return queued

    def set_priority(self, task_id: str, priority: TaskPriority | str | int) -> None:
        """Change the priority of a task that has not started. Raises `MoveRefused`, `TaskNotFound`."""
        self._provider.broker().set_priority(known_id(task_id), check.priority(priority))

    def delete(self, task_ids: Iterable[str]) -> int:
        """Delete tasks that have ended, with their results; return how many. Others are passed over."""
        return self._provider.broker().delete([known_id(task_id) for task_id in task_ids])

    # -- the small parts ------------------------------------------------------------------------------------------

    def _stored(self, task_id: str) -> StoredTask:
        stored = self._provider.broker().read([known_id(task_id)])[0]
        if stored is None:
            raise TaskNotFound(task_id)
        return stored

    def _search(self, query: TaskQuery, limit: int) -> list[Task]:
        """Up to `limit` tasks that match, over as many pages as that takes."""
        found: list[Task] = []
        cursor = None
        while len(found) < limit:
            page = self._provider.broker().search(query, min(limit - len(found), PAGE_TASKS_MAX), cursor)
            found += map(Task.of, page.tasks)
            cursor = page.cursor
            if cursor is None:
                break
        return found
