"""What a client asks of a broker. Redis fulfils it in `adapters/redis/tasks/broker.py`, the inline engine in
`testing/broker.py`.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from engine.core.task.lifecycle import TaskStatus
from engine.core.task.priority import TaskPriority
from engine.core.task.query import QueryPage, TaskQuery
from engine.core.task.record import Record
from engine.core.task.stored_task import StoredTask


class Submission(NamedTuple):
    """A task ready to be written. A second one with the same idempotency key in the same queue stands for the first."""

    id: str
    record: Record
    idempotency_key: str | None = None
    durability: str | None = None


class RawTask(Protocol):
    """A task as the broker got it, not read yet but for its status."""

    @property
    def id(self) -> str: ...
    @property
    def status(self) -> TaskStatus: ...

    def outcome(self) -> Mapping[str, Any] | None: ...
    def result(self) -> Any: ...
    def stored(self) -> StoredTask: ...


class ClientBroker(Protocol):
    """Each method may raise `BrokerError`; those that name a task raise `TaskNotFound`."""

    def submit(self, tasks: Sequence[Submission]) -> list[str]:
        """Write tasks; return their ids in order, an earlier id for an idempotency key that its queue knows."""

    def read(self, ids: Sequence[str]) -> Sequence[StoredTask | None]: ...

    def read_raw(self, ids: Sequence[str], *, records: bool = True) -> Iterator[RawTask | None]:
        """As `read`, not looked into yet. Without `records` only status and outcome can be read of them."""

    def ends(self, ids: Iterable[str], until_monotonic_s: float, /) -> Iterator[Collection[str]]:
        """Yield tasks as they end, or are found not to exist, until all have or it is so late. Blocks meanwhile."""

    def await_end(self, task_id: str, until_monotonic_s: float, /) -> tuple[TaskStatus, Mapping[str, Any]] | None:
        """Block until a task has ended or it is so late; return its status and outcome if these came with the news.

        None: it had ended before, there is no such task, its outcome is large, or time is up. `read` knows.
        """

    def search(self, query: TaskQuery, limit: int, cursor: str | None = None) -> QueryPage:
        """One page of the tasks that match. Raises `InvalidOption` for a cursor that no page gave."""

    def reason(self, stored: Any, /) -> str | None:
        """What a queued task waits for, where that is more than its turn."""

    def log(self, task_id: str, start: int = 0) -> Sequence[Mapping[str, Any]]: ...
    def unknown_types(self) -> dict[str, int]: ...
    def queue_stats(self) -> list[dict[str, Any]]: ...
    def handlers(self) -> dict[str, dict[str, Any]]: ...
    def supervisors(self) -> list[dict[str, Any]]: ...
    def processes(self) -> list[dict[str, Any]]: ...

    def history(self, host: str, root_pid: int) -> list[dict[str, Any]]:
        """What the processes of an engine used, every ten seconds, the newest first."""

    def outcomes(self, task_id: str) -> list[dict[str, Any]]: ...
    def status_counts(self) -> dict[str, int]: ...
    def counters(self) -> dict[str, int]: ...
    def delete(self, ids: Sequence[str]) -> int: ...

    def cancel(self, task_id: str, reason: str) -> TaskStatus:
        """Return CANCELLED, or RUNNING if a worker has to be told first. Raises `MoveRefused`."""

    def requeue(self, task_id: str) -> None:
        """Raises `MoveRefused`."""

    def set_priority(self, task_id: str, priority: TaskPriority) -> None:
        """Raises `MoveRefused`."""

    def send_command(self, supervisor: str, command: dict[str, Any]) -> bool:
        """Have a supervisor do something; False if there is no such supervisor."""

    def control(self, command: Mapping[str, Any]) -> int:
        """Have every engine do something to its pools; return how many engines heard it."""

    def engine_log(self, before_id: str = "+", since_ms: int = 0) -> Iterator[dict[str, Any]]:
        """The lines of the engine's own log, each with its `id`, the newest first."""

    def pause(self, queue: str) -> None: ...
    def resume(self, queue: str) -> None: ...

    def purge(self, queue: str, limit: int) -> int:
        """Cancel up to `limit` waiting tasks; return how many."""

    def close(self) -> None: ...


class BrokerProvider(Protocol):
    """How a client gets to its broker, and whose time it waits by."""

    def broker(self) -> ClientBroker: ...

    def now_ms(self) -> int:
        """The time by the broker's clock. Raises `BrokerError`."""

    def now_s(self) -> float:
        """Seconds that only grow, to measure waits by."""

    def sleep(self, seconds: float) -> None: ...
    def close(self) -> None: ...
