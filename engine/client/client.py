"""The client's verbs, each a few lines: check, ask the broker, make models of the answer."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import starmap
from types import TracebackType
from typing import Any, Unpack

from engine.client.filters import Filter, checked
from engine.client.models import LogLine, QueueStats, Task
from engine.client.outcome import value_of
from engine.client.provider import RedisBrokerProvider
from engine.client.submission import Directory, Submissions, SubmitOptions
from engine.client.waiting import (
    FOR_EVER,
    as_completed,
    await_all,
    await_outcome,
    in_order,
    known_id,
    patience,
)
from engine.config import Settings, load_settings
from engine.core.task.lifecycle import TaskStatus
from engine.core.task.names import check_queue_name
from engine.core.task.priority import TaskPriority
from engine.core.task.stored_task import StoredTask
from engine.errors import InvalidSetting, MoveRefused, ResultNotReady, TaskNotFound
from engine.ports.client_broker import BrokerProvider
from engine.tasks import options as check
from engine.tasks.handler import NO_PAYLOAD

PAGE = 500  # tasks read in one round trip


class Client:
    """Submits tasks and reports on them. Any number of threads may share one; it connects at first use.

    `redis_url` or any other setting by name goes before the configuration file and the environment; `settings` goes
    before all of them. Without a `redis_url` it uses the embedded Redis of `data_dir`, and starts it if need be.
    `provider` and `directory` are for engines that are not in Redis: they give the broker, and know the handlers.

    Every method may raise `BrokerError` (`BrokerUnavailable`, `BrokerFull` …) within `submit_timeout_s`.
    """

    def __init__(self, redis_url: str | None = None, *, settings: Settings | None = None,
                 provider: BrokerProvider | None = None, directory: Directory | None = None, **overrides: Any) -> None:
        self.settings = settings_for(settings, redis_url=redis_url, **overrides)
        self._provider: BrokerProvider = provider or RedisBrokerProvider(self.settings)
        directory = directory or Directory(self.handlers, accepts_unknown=self.settings.unknown_types == "accept")
        self._submissions = Submissions(directory, self.settings.payload_bytes_max)

    # -- submitting -----------------------------------------------------------------------------------------------

    def submit(self, task_type: Any, payload: Any = NO_PAYLOAD, **options: Unpack[SubmitOptions]) -> str:
        """Submit one task; return its id, or that of an earlier task of its queue with the same `idempotency_key`.

        When it returns, the task is in Redis. Raises a subclass of `InvalidInput` that names the field if anything
        passed is not acceptable, and then nothing has been written.
        """
        task = self._submissions.one(task_type, payload, options, self._provider.now_ms())
        return self._provider.broker().submit([task])[0]

    def submit_many(self, tasks: Iterable[Mapping[str, Any]]) -> list[str]:
        """Submit tasks given as mappings with `task_type`, `payload` and the options of `submit`; return their ids.

        All are checked before the first is written. They are written a few hundred at a time.
        """
        return self._provider.broker().submit(self._submissions.many(tasks, self._provider.now_ms()))

    # -- looking --------------------------------------------------------------------------------------------------

    def unknown_types(self) -> dict[str, int]:
        """How many tasks wait of each type that no living pool knows, as far as pools have met them."""
        return self._provider.broker().unknown_types()

    def reason(self, task_id: str) -> str | None:
        """What a queued task waits for where that is more than its turn: its queue is paused, no pool is running, none
        knows its type or serves its queue, or no worker can start. None for any other task, and where there is no
        such task.
        """
        stored = self._provider.broker().read([known_id(task_id)])[0]
        return None if stored is None else self._provider.broker().reason(stored)

    def get(self, task_id: str) -> Task:
        """All that is known of a task. Raises `TaskNotFound`."""
        return Task.of(self._stored(task_id))

    def status(self, task_id: str) -> TaskStatus:
        """Raises `TaskNotFound`."""
        return TaskStatus(self._stored(task_id).life.status)

    def result(self, task_id: str, wait: float | None = None) -> Any:
        """What the handler returned, after waiting up to `wait` seconds for it (None or 0: not at all).

        Raises `TaskFailed`, `TaskTimedOut` or `TaskCancelled` if it ended without a result, `ResultNotReady` if it has
        not ended in time, `TaskNotFound`. A Redis that goes away and comes back while it waits is waited for.
        """
        wait_s = 0.0 if wait is None else patience(wait, "wait")
        status, outcome = await_outcome(self._provider, known_id(task_id), wait_s)
        if not status.is_final:
            raise ResultNotReady(task_id, status, wait_s)
        return value_of(task_id, status, outcome)

    def wait(self, task_ids: Iterable[str], timeout: float | None = None) -> list[Task]:
        """Wait until all have ended, or `timeout` seconds (None: without end); return them in order as they are then.

        Raises `TaskNotFound` for an id that there is not, at once.
        """
        ids = [known_id(task_id) for task_id in task_ids]
        return await_all(self._provider, ids, _wait_s(timeout))

    def as_completed(self, task_ids: Iterable[str], timeout: float | None = None) -> Iterator[Task]:
        """Yield each task once it has ended, the first to end first; each id once.

        Tasks are read as they end and not kept, so any number of them can be gone through. Raises `ResultNotReady`
        when some have not ended after `timeout` seconds (None: waits without end), `TaskNotFound` for an id that there
        is not.
        """
        ids, wait_s = [known_id(task_id) for task_id in task_ids], _wait_s(timeout)
        return starmap(Task.unread, as_completed(self._provider, ids, wait_s))

    def results(self, task_ids: Iterable[str], timeout: float | None = None) -> Iterator[Any]:
        """Yield what the handlers returned, in the order of the ids, each once it is there. Payloads are not read.

        Raises, when it comes to a task that has no result, `TaskFailed`, `TaskTimedOut` or `TaskCancelled`;
        `ResultNotReady` when some have not ended after `timeout` seconds (None: waits without end); `TaskNotFound`.
        """
        ids, wait_s = [known_id(task_id) for task_id in task_ids], _wait_s(timeout)
        return in_order(self._provider, ids, wait_s)

    def tasks(self, *, limit: int = 100, **matching: Unpack[Filter]) -> list[Task]:
        """Up to `limit` tasks that match, the newest first where that is cheap to know."""
        limit = check.count(limit, "limit", 1)
        found: list[Task] = []
        for task in self._matching(checked(matching), min(limit, PAGE)):
            found.append(task)
            if len(found) == limit:
                break
        return found

    def page(self, *, limit: int = 100, cursor: str | None = None,
             **matching: Unpack[Filter]) -> tuple[list[Task], str | None]:
        """As `tasks`, with a cursor for the next call; None when there is no more."""
        found, cursor = self._provider.broker().find(**checked(matching), limit=check.count(limit, "limit", 1),
                                                  cursor=cursor)
        return [Task.of(stored) for stored in found], cursor

    def logs(self, task_id: str, start: int = 0) -> list[LogLine]:
        """What the task's runs printed and logged, from line `start`; also while it runs. Raises `TaskNotFound`."""
        rows = self._provider.broker().log(known_id(task_id), check.count(start, "start"))
        if not rows:
            self._stored(task_id)
        return [LogLine.of(row) for row in rows]

    def queue_stats(self) -> list[QueueStats]:
        """Each queue that is known, and what waits in it. One that nobody uses for a day is forgotten."""
        return [QueueStats.model_validate(row) for row in self._provider.broker().queue_stats()]

    def handlers(self) -> dict[str, dict[str, Any]]:
        """What the pools can run, by name, as they announced it."""
        return self._provider.broker().handlers()

    def workers(self) -> list[dict[str, Any]]:
        """The supervisors that are alive and what their workers do."""
        return [report for report in self._provider.broker().supervisors() if report["alive"]]

    def processes(self) -> list[dict[str, Any]]:
        """The latest sample of every process of the engine, on every host."""
        return self._provider.broker().processes()

    def outcomes(self, task_id: str) -> list[dict[str, Any]]:
        """How each run of a task ended, the first first. Raises `TaskNotFound`."""
        self._stored(task_id)
        return self._provider.broker().outcomes(task_id)

    def counts(self) -> dict[str, int]:
        """How many tasks are in each status now."""
        return self._provider.broker().status_counts()

    def counters(self) -> dict[str, int]:
        """What has happened since the beginning: `submitted`, `runs`, each final status, …"""
        return self._provider.broker().counters()

    def _stored(self, task_id: str) -> StoredTask:
        stored = self._provider.broker().read([known_id(task_id)])[0]
        if stored is None:
            raise TaskNotFound(task_id)
        return stored

    def _matching(self, matching: dict[str, Any], size: int) -> Iterator[Task]:
        cursor = None
        while True:
            found, cursor = self._provider.broker().find(**matching, limit=size, cursor=cursor)
            yield from map(Task.of, found)
            if cursor is None:
                return

    # -- acting ---------------------------------------------------------------------------------------------------

    def cancel(self, task_id: str, reason: str = "cancelled by a client") -> TaskStatus:
        """End a task. One that waits is CANCELLED at once; one that runs is RUNNING until its worker has stopped it.

        Raises `MoveRefused` if it has ended, `TaskNotFound`.
        """
        return self._provider.broker().cancel(known_id(task_id), check.text(reason, "reason"))

    def retry(self, task_id: str) -> None:
        """Queue a task again that FAILED, was CANCELLED or timed out, with all its retries.

        Raises `MoveRefused` if its status is another, `TaskNotFound`.
        """
        self._provider.broker().revive(known_id(task_id))

    def retry_many(self, *, limit: int = 10_000, **matching: Unpack[Filter]) -> list[str]:
        """Retry up to `limit` tasks that match, by default those that are FAILED; return the ids of those queued."""
        chosen = {"status": TaskStatus.FAILED, **checked(matching)}
        ids = [task.id for task in self.tasks(limit=limit, **chosen)]
        revived = []
        for task_id in ids:
            with suppress(MoveRefused, TaskNotFound):  # somebody else was quicker
                self.retry(task_id)
                revived.append(task_id)
        return revived

    def set_priority(self, task_id: str, priority: TaskPriority | str | int) -> None:
        """Change the priority of a task that has not started. Raises `MoveRefused`, `TaskNotFound`."""
        self._provider.broker().set_priority(known_id(task_id), check.priority(priority))

    def pause(self, queue: str) -> None:
        """Start no more tasks of a queue; what runs goes on."""
        self._provider.broker().pause(check_queue_name(queue))

    def resume(self, queue: str) -> None:
        """Start tasks of a paused queue again."""
        self._provider.broker().resume(check_queue_name(queue))

    def purge(self, queue: str) -> int:
        """Cancel every task that waits in a queue; return how many."""
        name, purged = check_queue_name(queue), 0
        while few := self._provider.broker().purge(name, PAGE):
            purged += few
        return purged

    def delete(self, task_ids: Iterable[str]) -> int:
        """Forget tasks that have ended, with their results; return how many. Others are passed over."""
        return self._provider.broker().delete([known_id(task_id) for task_id in task_ids])

    # -- life -----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close the connections. The last user of an embedded Redis ends it; its data is kept."""
        self._provider.close()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled and copied by its settings, a password of Redis's among them. The other opens its own connections."""
        return _client_of, (type(self), self.settings)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()


def settings_for(settings: Settings | None, **overrides: Any) -> Settings:
    """The settings of a client: those given, or else loaded with these overrides. Raises `InvalidSetting` for both."""
    if settings is None:
        return load_settings(overrides).settings
    if any(value is not None or name != "redis_url" for name, value in overrides.items()):
        raise InvalidSetting("give a client either settings or single values, not both", field="settings",
                             limit="one of the two")
    return settings


def _client_of(kind: type[Client], settings: Settings) -> Client:
    return kind(settings=settings)


def _wait_s(timeout: float | None) -> float:
    return FOR_EVER if timeout is None else patience(timeout, "timeout")
