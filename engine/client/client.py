"""The client: sub-clients for tasks, queues, workers, handlers and the engine, and short names for their verbs."""

from collections.abc import Iterable
from types import TracebackType
from typing import Any, Unpack

from engine.client.engine import EngineClient
from engine.client.filters import Filter
from engine.client.handlers import HandlersClient
from engine.client.models import LogLine, Task
from engine.client.provider import RedisBrokerProvider
from engine.client.queues import QueuesClient
from engine.client.short_verbs import ShortVerbs
from engine.client.submission import HandlerDirectory, SubmissionFactory
from engine.client.tasks import TasksClient
from engine.client.workers import WorkersClient
from engine.config import Settings, load_settings
from engine.core.task.lifecycle import TaskStatus
from engine.core.task.priority import TaskPriority
from engine.errors import InvalidSetting
from engine.ports.client_broker import BrokerProvider


class Client(ShortVerbs):
    """Submits tasks and reports on them. Any number of threads may share one; it connects at first use.

        with Client("redis://localhost") as client:
            task_id = client.submit("thumbnail", {"id": 7})
            print(client.result(task_id, wait=60))

    Each verb is in a sub-client; the methods of the client itself are short names for them. Every one of them may raise
    `BrokerError` (`BrokerUnavailable`, `BrokerFull` …) within `submit_timeout_s` seconds.
    """

    settings: Settings
    tasks: TasksClient  # submits tasks, reads them, waits for them and changes them
    queues: QueuesClient  # counts what waits in queues; pauses, resumes and purges them
    workers: WorkersClient  # reports on supervisors, workers and their processes
    handlers: HandlersClient  # knows what the pools can run
    engine: EngineClient  # has the numbers of the whole

    def __init__(self, redis_url: str | None = None, *, settings: Settings | None = None,
                 provider: BrokerProvider | None = None, directory: HandlerDirectory | None = None,
                 **overrides: Any) -> None:
        """Connect to nothing yet.

        Args:
            redis_url: the Redis to use; without one, the embedded Redis of `data_dir`, which is started if need be.
            settings: all settings, in place of the configuration file and the environment.
            provider: gives the broker of an engine that is not in Redis.
            directory: knows the handlers of an engine that is not in Redis.
            **overrides: settings by name; they go before the configuration file and the environment.

        Raises:
            InvalidSetting: for a wrong setting, or for `settings` beside single ones.
        """
        self.settings = settings_for(settings, redis_url=redis_url, **overrides)
        self._provider: BrokerProvider = provider or RedisBrokerProvider(self.settings)
        self.handlers = HandlersClient(self._provider)
        directory = directory or HandlerDirectory(self.handlers.announced,
                                                  accepts_unknown=self.settings.unknown_types == "accept")
        self.tasks = TasksClient(self._provider, SubmissionFactory(directory, self.settings.payload_bytes_max))
        self.queues = QueuesClient(self._provider)
        self.workers = WorkersClient(self._provider)
        self.engine = EngineClient(self._provider)

    # -- tasks ----------------------------------------------------------------------------------------------------

    def status(self, task_id: str) -> TaskStatus:
        """Short for `tasks.status`."""
        return self.tasks.status(task_id)

    def page(self, *, limit: int = 100, cursor: str | None = None,
             **matching: Unpack[Filter]) -> tuple[list[Task], str | None]:
        """Short for `tasks.page`."""
        return self.tasks.page(limit=limit, cursor=cursor, **matching)

    def logs(self, task_id: str, start: int = 0) -> list[LogLine]:
        """Short for `tasks.logs`."""
        return self.tasks.logs(task_id, start)

    def outcomes(self, task_id: str) -> list[dict[str, Any]]:
        """Short for `tasks.outcomes`."""
        return self.tasks.outcomes(task_id)

    def reason(self, task_id: str) -> str | None:
        """Short for `tasks.reason`."""
        return self.tasks.reason(task_id)

    def retry_many(self, *, limit: int = 10_000, **matching: Unpack[Filter]) -> list[str]:
        """Short for `tasks.retry_many`."""
        return self.tasks.retry_many(limit=limit, **matching)

    def set_priority(self, task_id: str, priority: TaskPriority | str | int) -> None:
        """Short for `tasks.set_priority`."""
        self.tasks.set_priority(task_id, priority)

    def delete(self, task_ids: Iterable[str]) -> int:
        """Short for `tasks.delete`."""
        return self.tasks.delete(task_ids)

    # -- queues, workers, the engine ------------------------------------------------------------------------------

    def pause(self, queue: str) -> None:
        """Short for `queues.pause`."""
        self.queues.pause(queue)

    def resume(self, queue: str) -> None:
        """Short for `queues.resume`."""
        self.queues.resume(queue)

    def purge(self, queue: str) -> int:
        """Short for `queues.purge`."""
        return self.queues.purge(queue)

    def processes(self) -> list[dict[str, Any]]:
        """Short for `workers.processes`."""
        return self.workers.processes()

    def unknown_types(self) -> dict[str, int]:
        """Short for `handlers.unknown_types`."""
        return self.handlers.unknown_types()

    def counts(self) -> dict[str, int]:
        """Short for `engine.task_counts`."""
        return self.engine.task_counts()

    def counters(self) -> dict[str, int]:
        """Short for `engine.counters`."""
        return self.engine.counters()

    # -- open and close -------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close the connections. The last user of an embedded Redis ends it; its data is kept."""
        self._provider.close()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy the settings, with the password of Redis. The copy opens connections of its own."""
        return _client_of, (type(self), self.settings)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()


def settings_for(settings: Settings | None, **overrides: Any) -> Settings:
    """Return the settings of a client: those given, or else loaded with these overrides.

    Raises `InvalidSetting` for a wrong override, or where both are given.
    """
    if settings is None:
        return load_settings(overrides, are_arguments=True).settings
    if any(value is not None or name != "redis_url" for name, value in overrides.items()):
        raise InvalidSetting("give a client either settings or single values, not both", field="settings",
                             limit="one of the two")
    return settings


def _client_of(kind: type[Client], settings: Settings) -> Client:
    return kind(settings=settings)
