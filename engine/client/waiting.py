"""Waits for tasks to end, also through restarts of Redis.

Tasks are read as they end, a slice at a time, while others still run. The provider has the clock.
"""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any

from engine.client.models import Task
from engine.core.task.lifecycle import FINAL, TaskStatus
from engine.core.task.task_id import is_task_id
from engine.errors import (
    BrokerError,
    BrokerUnavailable,
    ResultNotReady,
    TaskCancelled,
    TaskFailed,
    TaskNotFound,
    TaskTimedOut,
    passes,
)
from engine.ports.client_broker import BrokerProvider, RawTask
from engine.tasks import options as check

Ended = tuple[RawTask, TaskStatus]

FOR_EVER = math.inf
_PAUSE_S = 0.1  # before the next try while Redis is away
_READ_MAX = 500  # tasks in one slice
_ERRORS: dict[TaskStatus, type[TaskFailed]] = {TaskStatus.TIMEOUT: TaskTimedOut, TaskStatus.CANCELLED: TaskCancelled}


def ended(provider: BrokerProvider, ids: Iterable[str], until_s: float, *, records: bool = True,
          look_first: bool = False) -> Iterator[Ended]:
    """Yield each task once it has ended, with its status, until all have ended or the provider's clock shows `until_s`.

    Args:
        provider: gives the broker and the clock.
        ids: the tasks to wait for.
        until_s: the end of the wait, in seconds of the provider's clock.
        records: read the records too; without them only status and outcome can be read.
        look_first: read the tasks before the wait, where most have ended already.

    Raises:
        TaskNotFound: there is no such task.
        BrokerError: Redis is away at the end of the wait, or has never let this client in.
    """
    pending = dict.fromkeys(ids)
    was_let_in = False
    while pending:
        try:
            for over in _slices(provider, pending, until_s, look_first):
                was_let_in = True
                for raw in _read(provider, over, records=records):
                    status = raw.status
                    if status in FINAL:  # else it has been retried meanwhile
                        del pending[raw.id]
                        yield raw, status
            if provider.now_s() >= until_s:
                return
        except BrokerError as error:
            if not passes(error, was_let_in=was_let_in) or provider.now_s() + _PAUSE_S >= until_s:
                raise
            provider.sleep(_PAUSE_S)


def _slices(provider: BrokerProvider, pending: Mapping[str, None], until_s: float,
            look_first: bool) -> Iterator[Collection[str]]:
    """Yield tasks that may have ended. Once the time is up, Redis is not asked to report ends any more."""
    if look_first or provider.now_s() >= until_s:
        yield list(pending)
    if pending and provider.now_s() < until_s:
        yield from provider.broker().ends(list(pending), until_s)


def await_all(provider: BrokerProvider, ids: Sequence[str], wait_s: float) -> list[Task]:
    """Wait up to `wait_s` seconds for all; return the tasks in order, as they are then. Raises as `ended` does."""
    found: dict[str, Task] = {}
    if wait_s > 0:
        ends = ended(provider, ids, provider.now_s() + wait_s)
        found = {raw.id: Task.unread(raw, status) for raw, status in ends}
    rest = list(dict.fromkeys(task_id for task_id in ids if task_id not in found))
    found |= {raw.id: Task.unread(raw, raw.status) for raw in _read(provider, rest)}
    return [found[task_id] for task_id in ids]


def as_completed(provider: BrokerProvider, ids: Sequence[str], wait_s: float, *,
                 records: bool = True) -> Iterator[Ended]:
    """Yield tasks as they end. Raises `ResultNotReady` if some have not in `wait_s` seconds, else as `ended` does."""
    left = dict.fromkeys(ids)
    for end in ended(provider, ids, provider.now_s() + wait_s, records=records):
        del left[end[0].id]
        yield end
    if left:
        first = next(iter(left))
        status = next(_read(provider, [first])).status
        raise ResultNotReady(first, status, wait_s, len(left) - 1)


def in_order(provider: BrokerProvider, ids: Sequence[str], wait_s: float) -> Iterator[Any]:
    """Yield what tasks returned, in the order of `ids`. Only a slice of the tasks is kept at a time.

    Raises the error of the first task that has no result, and else as `as_completed` does.
    """
    until_s = provider.now_s() + wait_s
    for start in range(0, len(ids), _READ_MAX):
        few = ids[start : start + _READ_MAX]
        found: dict[str, Ended] = {}
        turn = 0
        for end in as_completed(provider, few, max(0.0, until_s - provider.now_s()), records=False):
            found[end[0].id] = end
            while turn < len(few) and few[turn] in found:
                raw, status = found[few[turn]]
                yield value_of(raw.id, status, raw.outcome())
                turn += 1


def await_outcome(provider: BrokerProvider, task_id: str, wait_s: float) -> tuple[TaskStatus, Mapping[str, Any] | None]:
    """Wait up to `wait_s` seconds for one task; return its status and outcome. Most outcomes come with the message."""
    until_s = provider.now_s() + wait_s
    if wait_s > 0:
        with suppress(BrokerUnavailable):  # at the end of the wait; the read below raises it again
            end = provider.broker().await_end(task_id, until_s)
            if end is not None:
                return end
        for raw, status in ended(provider, [task_id], until_s, records=False, look_first=True):
            return status, raw.outcome()
    raw = next(_read(provider, [task_id], records=False))
    return raw.status, raw.outcome()


def _read(provider: BrokerProvider, ids: Iterable[str], *, records: bool = True) -> Iterator[RawTask]:
    rest = iter(ids)
    while few := list(islice(rest, _READ_MAX)):
        for task_id, raw in zip(few, provider.broker().read_raw(few, records=records), strict=True):
            if raw is None:
                raise TaskNotFound(task_id)
            yield raw


def value_of(task_id: str, status: TaskStatus, outcome: Mapping[str, Any] | None) -> Any:
    """Return what the handler returned. Raises `TaskFailed`, `TaskTimedOut` or `TaskCancelled`."""
    assert status.is_final, status
    if status is TaskStatus.COMPLETED and not (outcome or {}).get("error"):  # with an error, its outcome cannot be read
        return (outcome or {}).get("result")
    raise _ERRORS.get(status, TaskFailed)(task_id, status, dict(outcome or {}))


def wait_seconds(value: Any, field: str) -> float:
    """Return how many seconds to wait; None and infinity are without end. Raises `InvalidOption`, with the field."""
    return FOR_EVER if value is None or value == math.inf else check.seconds(value, field)


def known_id(task_id: Any) -> str:
    """Return the id. Raises `TaskNotFound` for a value that cannot be an id."""
    if isinstance(task_id, str) and is_task_id(task_id):
        return task_id
    raise TaskNotFound(task_id)
