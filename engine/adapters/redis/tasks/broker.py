"""What a client asks of Redis. Fulfils `ClientBroker`.

It hands each verb on to the part that has it: `submit.py`, `amend.py`, `search.py`, `TaskActions` for other changes,
`StatusReader`, `WaitReasons`, `EndWaiter` and `Durability`. Threads may share a broker. Every method raises errors of
`engine.errors` only.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from engine.adapters.clock import RedisClock
from engine.adapters.redis.records.api_keys import RedisApiKeyStore
from engine.adapters.redis.records.engine_log import RedisEngineLog
from engine.adapters.redis.records.event_stream import RedisEventStreamReader
from engine.adapters.redis.records.webhooks import RedisWebhookStore
from engine.adapters.redis.tasks import amend, search, submit
from engine.adapters.redis.tasks.durability import Durability
from engine.adapters.redis.tasks.end_waiter import EndWaiter
from engine.adapters.redis.tasks.status_reader import StatusReader
from engine.adapters.redis.tasks.task_actions import TaskActions
from engine.adapters.redis.tasks.task_reader import EncodedTask, look, look_raw
from engine.adapters.redis.tasks.wait_reasons import WaitReasons
from engine.adapters.redis.wire.connection import Connections
from engine.adapters.redis.wire.keys import Keys
from engine.core.measure.usage_history import ENTRIES_MAX
from engine.core.task.lifecycle import TaskStatus
from engine.core.task.priority import TaskPriority
from engine.core.task.query import QueryPage, TaskQuery
from engine.core.task.stored_task import StoredTask
from engine.ports.client_broker import Submission

__all__ = ["BrokerSettings", "RedisClientBroker", "StoredTask", "Submission", "connect"]


class BrokerSettings(Protocol):
    """The settings that the broker goes by."""

    @property
    def redis_url(self) -> str | None: ...
    @property
    def queue_prefix(self) -> str: ...
    @property
    def submit_timeout_s(self) -> float: ...
    @property
    def failed_ttl_s(self) -> float: ...
    @property
    def idempotency_ttl_s(self) -> float: ...


def connect(settings: BrokerSettings) -> "RedisClientBroker":
    """A broker for these settings, after one round trip to a Redis that will do. Raises `BrokerError`."""
    assert settings.redis_url is not None
    broker = RedisClientBroker(settings.redis_url, prefix=settings.queue_prefix, timeout_s=settings.submit_timeout_s,
                    failed_ttl_s=settings.failed_ttl_s, idempotency_ttl_s=settings.idempotency_ttl_s)
    broker.ping()
    return broker


class RedisClientBroker:
    """Opens its connections when they are needed. `timeout_s` bounds each call; `ends` has its own bound.

    `failed_ttl_s`: how long a task that was cancelled here is kept. `idempotency_ttl_s`: how long a key is remembered.
    """

    def __init__(self, url: str, *, prefix: str = "ganger", timeout_s: float = 2.0, failed_ttl_s: float = 604_800,
                 idempotency_ttl_s: float = 86_400) -> None:
        self.keys = Keys(prefix)
        self.redis = Connections(url, timeout_s=timeout_s, schema_key=self.keys.schema)
        self._idempotency_ms = int(idempotency_ttl_s * 1000)
        self.kept_ms = int(failed_ttl_s * 1000)
        self._expects_webhooks = False
        self._actions = TaskActions(self.redis, self.keys, self.kept_ms)
        self._status = StatusReader(self.redis, self.keys)
        self._wait_reasons = WaitReasons(self.redis, self.keys)
        self._waiter = EndWaiter(self.redis, self.keys)
        self.durability = Durability(self.redis, self.keys)
        self.api_keys = RedisApiKeyStore(self.redis, self.keys)
        self.webhooks = RedisWebhookStore(self.redis, self.keys)
        self._engine_log = RedisEngineLog(self.redis, self.keys)

    @property
    def clock(self) -> RedisClock:
        return self.redis.clock

    def ping(self) -> None:
        """Make sure that Redis is there, will do, and that the clock is set by it."""
        self.redis.calibrate()

    def close(self) -> None:
        self._waiter.close()
        self.redis.close()

    # -- tasks ----------------------------------------------------------------------------------------------------

    def submit(self, tasks: Sequence[Submission]) -> list[str]:
        """Submit tasks; return their ids in order, an earlier task's id where its idempotency key is known.

        If one asks for `durability`, it returns when all are on disk. Raises `DurabilityUnavailable` before anything is
        written if this Redis cannot say that.
        """
        is_durable = any(task.durability for task in tasks)
        if is_durable:
            self.durability.check()
        if not self._expects_webhooks and any("webhook" in task.record.options for task in tasks):
            self.webhooks.own_secret()  # tells those who deliver to look at each end
            self._expects_webhooks = True
        ids = submit.submit(self.redis, self.keys, tasks, self._idempotency_ms)
        if is_durable:
            self.durability.confirm()
        return ids

    def check_durability(self) -> None:
        """Raises `DurabilityUnavailable` with the reason if this Redis cannot say when a write is on disk."""
        self.durability.check()

    def read(self, ids: Sequence[str]) -> list[StoredTask | None]:
        """The tasks as they are now, None where there is none."""
        return look(self.redis, self.keys, ids)

    def read_raw(self, ids: Sequence[str], *, records: bool = True) -> Iterator[EncodedTask | None]:
        """As `read`, but nothing is looked into yet; without `records`, only how they ended is there to be read."""
        return look_raw(self.redis, self.keys, ids, records=records)

    def earlier_ids(self, keys: Collection[tuple[str, str]]) -> dict[tuple[str, str], str]:
        """The id that each idempotency key stands for, where its queue knows the key; keys are (queue, key)."""
        found = self.redis.call_all([("GET", self.keys.idempotency(queue, key)) for queue, key in keys])
        return {key: task_id.decode() for key, task_id in zip(keys, found, strict=True) if task_id is not None}

    def outcomes(self, task_id: str) -> list[dict[str, Any]]:
        """How each run of a task ended, the first first."""
        return self._status.outcomes(task_id)

    def reason(self, stored: StoredTask) -> str | None:
        """What a queued task waits for, in words; None where it only waits for its turn."""
        return self._wait_reasons.reason(stored)

    def unknown_types(self) -> dict[str, int]:
        """How many tasks wait aside of each type that no living pool knows."""
        return self._wait_reasons.unknown_types()

    def search(self, query: TaskQuery, limit: int, cursor: str | None = None) -> QueryPage:
        """One page of the tasks that match. Raises `InvalidOption` for a cursor that no page gave."""
        return search.search(self.redis, self.keys, query, limit, cursor)

    def ends(self, ids: Iterable[str], until_monotonic_s: float) -> Iterator[Collection[str]]:
        """Yield tasks as they end, or are found not to exist, until all have or time is up."""
        return self._waiter.ends(ids, until_monotonic_s)

    def await_end(self, task_id: str, until_monotonic_s: float) -> tuple[TaskStatus, dict[str, Any]] | None:
        """Block until a task has ended or time is up; return its status and outcome if they came with the news."""
        return self._waiter.await_end(task_id, until_monotonic_s)

    def log(self, task_id: str, start: int = 0) -> list[dict[str, Any]]:
        """What the runs of a task printed and logged, from row `start`."""
        return self._status.log(task_id, start)

    def cancel(self, task_id: str, reason: str) -> TaskStatus:
        """End a task: CANCELLED at once if it waits, RUNNING if its supervisor has been told to end it.

        Raises `MoveRefused` if it has ended, `TaskNotFound`.
        """
        return self._actions.cancel(task_id, reason)

    def requeue(self, task_id: str) -> None:
        """Queue a task again after its end. Raises `MoveRefused`, `TaskNotFound`."""
        self._actions.requeue_one(task_id)

    def requeue_many(self, ids: Sequence[str]) -> int:
        """Queue those again that can be; return how many."""
        return self._actions.requeue(ids)

    def amend(self, task_id: str, changes: Mapping[str, Any], priority: TaskPriority | None,
              versions: Collection[str] | None = None) -> None:
        """Set options of a task that has not started (None takes one away), and its priority.

        Raises `ChangedMeanwhile` if the task is in none of these versions, `MoveRefused`, `TaskNotFound`.
        """
        amend.amend(self.redis, self.keys, task_id, changes, priority, versions, kept_ms=self.kept_ms)

    def set_priority(self, task_id: str, priority: TaskPriority) -> None:
        """Raises `MoveRefused` if it runs or has ended, `TaskNotFound`."""
        amend.amend(self.redis, self.keys, task_id, {}, priority, kept_ms=self.kept_ms,
                       verb="change the priority of")

    def delete(self, ids: Sequence[str]) -> int:
        """Forget tasks that have ended; return how many. Others are passed over."""
        return self._actions.delete(ids)

    # -- queues ---------------------------------------------------------------------------------------------------

    def queue_stats(self) -> list[dict[str, Any]]:
        """For each queue: `queue`, `paused`, `queued` by priority, `oldest_s`."""
        return self._status.queue_stats()

    def status_counts(self) -> dict[str, int]:
        """How many tasks are in each status now."""
        return self._status.status_counts()

    def counters(self) -> dict[str, int]:
        """What has happened since the beginning."""
        return self._status.counters()

    def pause(self, queue: str) -> None:
        """Start no more tasks of a queue."""
        self._actions.set_queue_state(queue, "paused")

    def resume(self, queue: str) -> None:
        """Start tasks of a queue again."""
        self._actions.set_queue_state(queue, "open")

    def purge(self, queue: str, limit: int) -> int:
        """Cancel up to `limit` tasks queued in a queue; return how many."""
        return self._actions.purge(queue, limit)

    # -- the engine -----------------------------------------------------------------------------------------------

    def handlers(self) -> dict[str, dict[str, Any]]:
        """What pools have announced that they can run, by name."""
        return self._status.handlers()

    def supervisors(self) -> list[dict[str, Any]]:
        """The reports of all supervisors, with `supervisor`, `lease_end_ms` and `alive`."""
        return self._status.supervisors()

    def processes(self) -> list[dict[str, Any]]:
        """The latest sample of every process of every engine."""
        return self._status.processes()

    def history(self, host: str, root_pid: int, limit: int = ENTRIES_MAX) -> list[dict[str, Any]]:
        """The last `limit` entries of what the processes of an engine used, the newest first."""
        return self._status.history(host, root_pid, limit)

    def send_command(self, supervisor: str, command: dict[str, Any]) -> bool:
        """Put a command into the queue of a supervisor; False if there is no such supervisor."""
        return self._actions.send_command(supervisor, command)

    def control(self, command: Mapping[str, Any]) -> int:
        """Have every engine do something to its pools, see `engine/services/tree/control.py`; how many heard it."""
        return self._actions.control(command)

    def engine_log(self, before_id: str = "+", since_ms: int = 0) -> Iterator[dict[str, Any]]:
        """The lines of the engine's own log, each with its `id`, from the one before that id back to that time."""
        return self._engine_log.newest_first(before_id, since_ms)

    def event_stream(self) -> RedisEventStreamReader:
        """A reader of the events on a connection of its own, for one thread."""
        return RedisEventStreamReader(self.redis, self.keys)

    def info(self) -> dict[str, Any]:
        """What Redis says of itself."""
        return self._status.info()

    def appendfsync(self) -> str | None:
        """How Redis writes its append-only file to disk; None where this user may not ask."""
        return self.durability.appendfsync()
