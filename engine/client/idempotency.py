"""Decides whether a submit with a known idempotency key is the same submit again.

It is the same if the task type and the payload are equal. All else of a task may have been changed since.
"""

from collections.abc import Sequence

import orjson

from engine.core.task.stored_task import StoredTask
from engine.errors import IdempotencyConflict
from engine.ports.client_broker import Submission
from engine.ports.engine_broker import EngineBroker


def conflict(made: Submission, earlier: StoredTask | None) -> IdempotencyConflict | None:
    """Return what is wrong with a submit whose idempotency key stands for `earlier`; None where it is the same."""
    if earlier is None or _is_same(made, earlier.record.task_type, earlier.record.payload):
        return None
    return _error(made)


def conflicts(broker: EngineBroker, submissions: Sequence[Submission]) -> list[IdempotencyConflict | None]:
    """Return the same for each of several submits, before they are written. Raises `BrokerError`."""
    keyed = {(made.record.queue, made.idempotency_key): made for made in reversed(submissions) if made.idempotency_key}
    ids = broker.earlier_ids(list(keyed)) if keyed else {}
    known = dict(zip(ids, broker.read(list(ids.values())), strict=True)) if ids else {}
    found: list[IdempotencyConflict | None] = []
    for made in submissions:
        key = made.record.queue, made.idempotency_key or ""
        first, earlier = keyed.get(key), known.get(key)
        if earlier is not None:
            found.append(conflict(made, earlier))
        elif first is not None and not _is_same(made, first.record.task_type, first.record.payload):
            found.append(_error(made))
        else:
            found.append(None)
    return found


def _error(made: Submission) -> IdempotencyConflict:
    key = str(made.idempotency_key)
    return IdempotencyConflict(
        f"the idempotency key {key!r} stands for a task of the queue {made.record.queue!r} with another type or "
        "payload; use another key for another task", field="idempotency_key", value=key,
        limit="one key for one task of a queue")


def _is_same(made: Submission, task_type: str, payload: bytes) -> bool:
    if made.record.task_type != task_type:
        return False
    return made.record.payload == payload or _sorted(made.record.payload) == _sorted(payload)


def _sorted(payload: bytes) -> bytes:
    """Return the payload with sorted keys: their order does not matter."""
    return orjson.dumps(orjson.loads(payload), option=orjson.OPT_SORT_KEYS)
