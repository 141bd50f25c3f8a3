"""Waiting for tasks to end, through all that may happen to Redis meanwhile."""

import math
import time
from collections.abc import Sequence
from typing import Any

from engine import options as check
from engine.adapters.redis.broker import Stored
from engine.client.reach import Reach
from engine.core.identity import is_task_id
from engine.errors import BrokerUnavailable, TaskNotFound

FOR_EVER = math.inf
_ROUND_S = 30.0  # of one wait at the broker
_PAUSE_S = 0.1  # before the next try while Redis is away
_READ_MAX = 500  # tasks in one round trip


def await_ended(reach: Reach, ids: Sequence[str], wait_s: float) -> list[Stored]:
    """Wait up to `wait_s` until all have ended; return them in order, as they are then.

    Raises `TaskNotFound` for an id that there is not, and `BrokerUnavailable` if Redis is away at the end of the wait.
    """
    until_s = time.monotonic() + wait_s
    found: dict[str, Stored] = {}
    unread = list(dict.fromkeys(ids))
    while True:
        try:
            _read(reach, unread, found)
            pending = [task_id for task_id in found if not found[task_id].life.status.is_final]
            now_s = time.monotonic()
            if not pending or now_s >= until_s:
                return [found[task_id] for task_id in ids]
            ended = reach.broker().wait(pending, min(until_s, now_s + _ROUND_S))
            unread = list(ended) if time.monotonic() < until_s else pending
        except BrokerUnavailable:
            if time.monotonic() + _PAUSE_S >= until_s:
                raise
            time.sleep(_PAUSE_S)


def _read(reach: Reach, ids: Sequence[str], found: dict[str, Stored]) -> None:
    for start in range(0, len(ids), _READ_MAX):
        few = ids[start : start + _READ_MAX]
        for task_id, stored in zip(few, reach.broker().read(few), strict=True):
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
