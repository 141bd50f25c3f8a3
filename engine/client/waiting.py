"""Waiting for tasks to end, through all that may happen to Redis meanwhile."""

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from engine import options as check
from engine.client.port import Way
from engine.core.identity import is_task_id
from engine.core.lifecycle import TaskStatus
from engine.errors import BrokerError, BrokerUnavailable, TaskNotFound, passes
from engine.models import Stored

FOR_EVER = math.inf
_PAUSE_S = 0.1  # before the next try while Redis is away
_READ_MAX = 500  # tasks in one round trip


def await_ended(way: Way, ids: Sequence[str], wait_s: float) -> list[Stored]:
    """Wait up to `wait_s` until all have ended; return them in order, as they are then.

    Raises `TaskNotFound` for an id that there is not, and a `BrokerError` if Redis is away at the end of the wait, or
    does not let this client in at all.
    """
    until_s = way.now_s() + wait_s
    found: dict[str, Stored] = {}
    unread = list(dict.fromkeys(ids))
    while True:
        try:
            _read(way, unread, found)
            pending = [task_id for task_id in found if not found[task_id].life.status.is_final]
            now_s = way.now_s()
            if not pending or now_s >= until_s:
                return [found[task_id] for task_id in ids]
            ended = way.broker().wait(pending, until_s)
            unread = list(ended) if way.now_s() < until_s else pending
        except BrokerError as error:
            if not passes(error, was_let_in=bool(found)) or way.now_s() + _PAUSE_S >= until_s:
                raise
            way.sleep(_PAUSE_S)


def await_outcome(way: Way, task_id: str, wait_s: float) -> tuple[TaskStatus, Mapping[str, Any] | None]:
    """As `await_ended` for one task, but only what it came to: mostly that comes with the news and need not be read."""
    until_s = way.now_s() + wait_s
    if wait_s > 0:
        with suppress(BrokerUnavailable):  # at the end of the wait; the read says it once more
            told = way.broker().hear(task_id, until_s)
            if told is not None:
                return told
    stored = await_ended(way, [task_id], max(0.0, until_s - way.now_s()))[0]
    return stored.life.status, stored.outcome


def _read(way: Way, ids: Sequence[str], found: dict[str, Stored]) -> None:
    for start in range(0, len(ids), _READ_MAX):
        few = ids[start : start + _READ_MAX]
        for task_id, stored in zip(few, way.broker().read(few), strict=True):
            if stored is None:
                raise TaskNotFound(task_id)
            found[task_id] = stored


def patience(value: Any, field: str) -> float:
    """A number of seconds to wait; infinity is one."""
    return FOR_EVER if value == math.inf else check.seconds(value, field)


def known_id(task_id: Any) -> str:
    """The id, if it can be one at all. Raises `TaskNotFound`."""
    if isinstance(task_id, str) and is_task_id(task_id):
        return task_id
    raise TaskNotFound(task_id)
