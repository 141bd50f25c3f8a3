"""Every error that Ganger raises, and the four exceptions that a handler may use.

    GangerError
    ├── InvalidInput (also ValueError)    names the field, what was wrong with it, and the limit
    │   ├── InvalidPayload                not JSON, or not what the handler's model asks for
    │   ├── PayloadTooLarge
    │   ├── InvalidOption                 queue, priority, delay, timeout, …
    │   │   └── IdempotencyConflict       over REST: the key stands for another task already
    │   ├── UnknownHandler
    │   ├── InvalidHandler                cannot be reached by name: a lambda, a closure
    │   └── InvalidSetting
    ├── TaskNotFound (also LookupError)
    ├── MoveRefused                       the task's status does not allow it; nothing has changed
    ├── ChangedMeanwhile                  over REST: If-Match names another version of the task; nothing has changed
    ├── TaskFailed                        `result()` of a task that did not complete
    │   ├── TaskTimedOut
    │   └── TaskCancelled
    ├── ResultNotReady (also TimeoutError) `result(wait=…)` ran out of patience
    ├── BrokerError
    │   ├── BrokerUnavailable (also ConnectionError)
    │   ├── BrokerFull                    Redis is at maxmemory, or a queue at its limit
    │   ├── BrokerReadOnly                a replica, or Redis refuses writes
    │   ├── BrokerDenied                  password, user or permission
    │   ├── BrokerTooOld
    │   ├── SchemaMismatch
    │   └── DurabilityUnavailable         `durability="fsync"` of a Redis that cannot know
    ├── NotRunning (also LookupError)     no worker or pool of that name is running
    └── EngineError                       the tree could not be started, stopped or reached

    For handlers: `Retry` and `Cancel` to raise; `SoftTimeout` and `TaskInterrupted`
    are raised inside them, and are BaseExceptions so that `except Exception` lets them pass.
"""

from collections import deque
from typing import Any, Protocol

_EXCEPTIONS: Any = BaseExceptionGroup.__dict__["exceptions"]


class GangerError(Exception):
    """The root of every error that Ganger raises. All of them can be pickled and copied, with their attributes."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (type(self), self.args, vars(self))


def _restored(kind: type[GangerError], args: tuple[Any, ...], attributes: dict[str, Any]) -> GangerError:
    """An error as it was, not made anew: its arguments are not those that its class is called with."""
    error = kind.__new__(kind)
    error.args = args
    vars(error).update(attributes)
    return error


class InvalidInput(GangerError, ValueError):
    """Something a caller passed is not acceptable. Nothing has changed.

    Attributes: `field` (its name), `value` (short text of what came), `limit` (what would be accepted).
    """

    def __init__(self, message: str, *, field: str, value: str = "", limit: str = "") -> None:
        super().__init__(message)
        self.field, self.value, self.limit = field, value, limit


class InvalidPayload(InvalidInput):
    """The payload is not JSON, or not what the handler's model asks for."""


class PayloadTooLarge(InvalidInput):
    """The payload has more bytes than `payload_bytes_max`."""


class InvalidOption(InvalidInput):
    """A queue, priority, delay, timeout or other option of a submit is out of its bounds."""


class IdempotencyConflict(InvalidOption):
    """The idempotency key stands for another task already."""


class UnknownHandler(InvalidInput):
    """No pool has announced a handler of that name."""


class InvalidHandler(InvalidInput):
    """The function cannot be reached by name from another process."""


class InvalidSetting(InvalidInput):
    """A setting is unknown or out of its bounds."""


class TaskNotFound(GangerError, LookupError):
    """There is no task of that id: never submitted, deleted, or its time to be kept is over."""

    def __init__(self, task_id: str) -> None:
        super().__init__(f"no task has the id {task_id!r}: it was never submitted, was deleted, or its TTL is over")
        self.task_id = task_id


class MoveRefused(GangerError):
    """The task's status does not allow what was asked. Nothing has changed."""

    def __init__(self, task_id: str, move: str, status: str) -> None:
        super().__init__(f"cannot {move} task {task_id}: it is {status}")
        self.task_id, self.move, self.status = task_id, move, status


class ChangedMeanwhile(GangerError):
    """The task is no longer in the version that the caller has seen. Nothing has changed."""


class TaskFailed(GangerError):
    """The task ended without a result.

    Attributes: `task_id`; `status`; `kind` and `message` of its error; `cause` of the end; `outcome`, all of it.
    """

    def __init__(self, task_id: str, status: str, outcome: dict[str, Any]) -> None:
        error = outcome.get("error") or {}
        self.kind, self.message = str(error.get("kind", "")), str(error.get("message", ""))
        super().__init__(f"task {task_id} is {status}: {self.kind}: {self.message}")
        self.task_id, self.status, self.outcome, self.cause = task_id, status, outcome, outcome.get("cause")


class TaskTimedOut(TaskFailed):
    """The task ran into its timeout."""


class TaskCancelled(TaskFailed):
    """The task was cancelled."""


class ResultNotReady(GangerError, TimeoutError):
    """The task has not ended within the time one was ready to wait, nor have `others` of those that were waited for."""

    def __init__(self, task_id: str, status: str, wait_s: float, others: int = 0) -> None:
        more = f" ({others + 1} tasks have not ended)" if others else ""
        super().__init__(f"task {task_id} is still {status} after {wait_s:g} s{more}")
        self.task_id, self.status, self.wait_s, self.others = task_id, status, wait_s, others


class BrokerError(GangerError):
    """Redis could not do what was asked."""


class BrokerUnavailable(BrokerError, ConnectionError):
    """Redis cannot be reached, or did not answer within the deadline."""


class BrokerFull(BrokerError):
    """Redis is at its maxmemory and refuses writes."""


class BrokerReadOnly(BrokerError):
    """This Redis does not take writes: a replica, or persistence has failed."""


class BrokerDenied(BrokerError):
    """Redis refuses the password, the user or a command."""


class BrokerTooOld(BrokerError):
    """Redis is older than 6.2."""


class SchemaMismatch(BrokerError):
    """The data in Redis have a format that this version of Ganger does not know. Nothing has changed."""


class DurabilityUnavailable(BrokerError):
    """A submit asked for `durability="fsync"`, which this Redis cannot promise. Nothing has changed."""


class NotRunning(GangerError, LookupError):
    """No worker or pool of that name is running."""


class EngineError(GangerError):
    """The tree of processes could not be started, stopped or reached."""


class Duration(Protocol):
    """A datetime.timedelta."""

    def total_seconds(self) -> float: ...


class Retry(Exception):
    """Raise it in a handler to run the task again, after `after` (seconds or a timedelta) or after its usual backoff.

    A run that asks for anything else, or for more than a hundred years, is FAILED with `InvalidOption`.
    """

    def __init__(self, message: str = "", *, after: float | Duration | None = None) -> None:
        super().__init__(message or "the handler asked for another run")
        self.after = after


class Cancel(Exception):
    """Raise it in a handler to end the task as CANCELLED."""

    def __init__(self, reason: str = "the handler cancelled it") -> None:
        super().__init__(reason)
        self.reason = reason


class SoftTimeout(BaseException):
    """Raised inside a handler at its `soft_timeout`: time to clean up until the hard `timeout`."""


class TaskInterrupted(BaseException):
    """Raised inside a handler whose task is being cancelled: time to clean up until it is killed."""


def held_by(error: BaseException) -> list[BaseException]:
    """The exceptions in a group and the groups inside it; a plain exception is the only one that it holds.

    Types are asked and not instances: an exception of the user's may claim to be of any class, or raise when asked.
    """
    found, todo = [], deque((error,))
    while todo:
        one = todo.popleft()
        if issubclass(type(one), BaseExceptionGroup):
            todo.extend(_EXCEPTIONS.__get__(one))
        else:
            found.append(one)
    return found


def passes(error: BrokerError, *, was_let_in: bool) -> bool:
    """Whether who waits for something should go on waiting: Redis may be well again before the wait is over.

    One that refuses us is only worth waiting for if it has let us in before (`was_let_in`): somebody is changing its
    passwords. Else it is told ours wrongly.
    """
    return isinstance(error, BrokerUnavailable | BrokerFull | BrokerReadOnly) or (
        was_let_in and isinstance(error, BrokerDenied))
