"""Submits tasks for callers of the API: what each may do is checked, and all that pass are written in one go.

Its methods are called in threads.
"""

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from engine.client.client import Client
from engine.client.operations import TaskOperations
from engine.config import Settings
from engine.core.task.stored_task import StoredTask
from engine.errors import BrokerFull, GangerError
from engine.ports.client_broker import Submission
from engine.services.api.http.authentication import Principal
from engine.services.api.http.problems import HttpError
from engine.services.metrics.tracing import Tracing
from engine.services.webhooks.addresses import check_url

DEPTHS_S = 0.5  # how often the depths of the queues are read


class SubmitRequest(NamedTuple):
    """A task as the client takes it, and the caller that submits it."""

    task: dict[str, Any]
    principal: Principal


class TaskSubmitter:
    """Used by the API alone. `tracing` is set where spans have somewhere to go."""

    def __init__(self, settings: Settings, client: Client, operations: TaskOperations) -> None:
        self._settings, self._client, self._operations = settings, client, operations
        self._depths: tuple[float, dict[str, int]] = (float("-inf"), {})  # when they were read, and of each queue
        self.tracing: Tracing | None = None

    def submit(self, requests: Sequence[SubmitRequest]) -> list[StoredTask | Exception]:
        """As `submit_all`, each by itself."""
        return self.submit_all(requests)

    def submit_all(self, requests: Sequence[SubmitRequest | Exception], *,
                   all_or_nothing: bool = False) -> list[StoredTask | Exception]:
        """Check each task, and write those that pass in one go.

        Args:
            requests: an exception stands for a task that was refused before, and is returned as it is.
            all_or_nothing: write none unless all pass. The others then say that another one was refused.

        Returns: for each request the task, or why it was refused.
        Raises: `BrokerError`.
        """
        checked = [request if isinstance(request, Exception) else self._prepare(request) for request in requests]
        if all_or_nothing and not any(isinstance(item, Exception) for item in checked):
            submissions = [item for item in checked if isinstance(item, Submission)]
            checked = [conflict or item for item, conflict in zip(
                checked, self._operations.conflicts(submissions), strict=True)]
        if all_or_nothing and any(isinstance(item, Exception) for item in checked):
            return [item if isinstance(item, Exception) else HttpError(424, "another task was refused")
                    for item in checked]
        submissions = [item for item in checked if isinstance(item, Submission)]
        written = iter(self._operations.write(submissions) if submissions else [])
        results: list[StoredTask | Exception] = []
        for item, request in zip(checked, requests, strict=True):
            if isinstance(item, Submission) and isinstance(request, SubmitRequest):
                results.append(_if_visible(next(written), request.principal))
            elif isinstance(item, Exception):
                results.append(item)
        return results

    def _prepare(self, request: SubmitRequest) -> Submission | Exception:
        task, principal = request
        try:
            if "webhook" in task:
                check_url(task["webhook"]["url"], "webhook.url", private=self._settings.webhooks_private)
            if self.tracing is not None and (
                    traceparent := self.tracing.submitted(task.get("traceparent"), task["task_type"])):
                task["traceparent"] = traceparent
            submission = self._operations.prepare(task)
            principal.must_see(submission.record.queue)
            self._must_have_room(submission.record.queue)
        except GangerError as error:
            return error
        return submission

    def _must_have_room(self, queue: str) -> None:
        """Raise `BrokerFull` if a queue is at its limit, by a count half a second old and what was submitted since."""
        tasks_max = self._settings.api_queue_tasks_max
        if not tasks_max:
            return
        read_s, depths = self._depths
        if time.monotonic() - read_s > DEPTHS_S:
            depths = {stats.queue: stats.total for stats in self._client.queues.stats()}
            self._depths = time.monotonic(), depths
        if depths.get(queue, 0) >= tasks_max:
            raise BrokerFull(f"{depths[queue]} tasks wait in the queue {queue}, and {tasks_max} may")
        depths[queue] = depths.get(queue, 0) + 1


def _if_visible(written: StoredTask | Exception, principal: Principal) -> StoredTask | Exception:
    """Return the task that was written, or found by its idempotency key, if the caller may see it."""
    if isinstance(written, StoredTask) and not principal.sees(written.record.queue):
        return HttpError(409, "this idempotency key stands for a task that this key may not see",
                         field="idempotency_key")
    return written
