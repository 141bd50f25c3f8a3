"""The verbs that most programs need, in short: `client.submit` for `client.tasks.submit`.

`Client` and `Scheduler` have them. This file imports little, because a script that uses a Scheduler is executed in the
fork server too, and each worker carries what it imports.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Unpack

from engine.tasks.handler_spec import NO_PAYLOAD

if TYPE_CHECKING:
    from engine.client.models import QueueStats, Task
    from engine.client.queues import QueuesClient
    from engine.client.tasks import TasksClient
    from engine.core.task.lifecycle import TaskStatus
    from engine.tasks.options import SubmitOptions


class ShortVerbs:
    """Hands each verb on to the sub-client that has it. A class that inherits it has the attributes below."""

    if TYPE_CHECKING:
        @property
        def tasks(self) -> TasksClient: ...
        @property
        def queues(self) -> QueuesClient: ...

    def submit(self, task_type: Any, payload: Any = NO_PAYLOAD, **options: "Unpack[SubmitOptions]") -> str:
        """Submit one task. When it returns, the task is in Redis.

            task_id = client.submit("thumbnail", {"id": 7}, priority="urgent", timeout=30)

        Args:
            task_type: the name of a handler, or the handler itself.
            payload: anything that JSON can say; left out, the handler gets `{}`.
            **options: see `SubmitOptions`; times are in seconds.

        Returns:
            The id of the task, or the id of the earlier task of this queue with the same `idempotency_key`.

        Raises:
            InvalidInput: one of its subclasses, which names the field; nothing has been written then.
            BrokerError: Redis is away, full or refuses.
        """
        return self.tasks.submit(task_type, payload, **options)

    def submit_many(self, tasks: Iterable[Mapping[str, Any]]) -> list[str]:
        """Submit tasks, a few hundred in one round trip. All are checked before the first is written.

            ids = client.submit_many({"task_type": "thumbnail", "payload": {"id": n}} for n in range(1000))

        Args:
            tasks: mappings with `task_type`, `payload` and the options of `submit`.

        Returns:
            The ids, in the order of the tasks.

        Raises:
            InvalidInput: as `submit`; the field names the index, such as `tasks[3].queue`.
            BrokerError: as `submit`.
        """
        return self.tasks.submit_many(tasks)

    def get(self, task_id: str) -> "Task":
        """Return a task as it is now. Raises `TaskNotFound`."""
        return self.tasks.get(task_id)

    def result(self, task_id: str, wait: float | None = None) -> Any:
        """Return what the handler returned.

            client.result(task_id, wait=60)

        Args:
            task_id: the id of the task.
            wait: how many seconds to wait for its end; None or 0: not at all.

        Raises:
            TaskFailed, TaskTimedOut, TaskCancelled: the task ended without a result.
            ResultNotReady: it has not ended in time.
            TaskNotFound: there is no such task.
        """
        return self.tasks.result(task_id, wait)

    def results(self, task_ids: Iterable[str], timeout: float | None = None) -> Iterator[Any]:
        """Yield what the handlers returned, in the order of the ids, each once it is there.

            for thumbnail in client.results(ids, timeout=60): …

        Args:
            task_ids: the ids.
            timeout: seconds for all of them together; None: wait without end.

        Raises:
            TaskFailed, TaskTimedOut, TaskCancelled: at the first task that has no result.
            ResultNotReady: some have not ended in time.
            TaskNotFound: there is no such task.
        """
        return self.tasks.results(task_ids, timeout)

    def wait(self, task_ids: Iterable[str], timeout: float | None = None) -> "list[Task]":
        """Wait until all tasks have ended, or `timeout` seconds (None: without end).

        Returns the tasks in the order of the ids, as they are then. Raises `TaskNotFound` at once for an id that there
        is not.
        """
        return self.tasks.wait(task_ids, timeout)

    def as_completed(self, task_ids: Iterable[str], timeout: float | None = None) -> "Iterator[Task]":
        """Yield each task once it has ended, the first to end first; each id once.

            for task in client.as_completed(ids): print(task.status, task.result)

        Args:
            task_ids: the ids.
            timeout: seconds for all of them together; None: wait without end.

        Raises:
            ResultNotReady: some have not ended in time.
            TaskNotFound: there is no such task.
        """
        return self.tasks.as_completed(task_ids, timeout)

    def cancel(self, task_id: str, reason: str = "cancelled by a client") -> "TaskStatus":
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
        return self.tasks.cancel(task_id, reason)

    def retry(self, task_id: str) -> None:
        """Queue a task again that FAILED, was CANCELLED or timed out, with all its retries.

        Raises `MoveRefused` if its status is another one, `TaskNotFound`.
        """
        self.tasks.retry(task_id)

    def queue_stats(self) -> "list[QueueStats]":
        """Return each queue that is known, and what waits in it."""
        return self.queues.stats()
