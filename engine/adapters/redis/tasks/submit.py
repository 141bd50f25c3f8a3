"""Submitting: tasks in batches, one script call per few hundred.

Law: all that can be decided about a task was decided before it comes here;
this file groups, packs and sends. It is on the path of every task, so it
makes no objects that it does not need.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from engine.adapters.redis.wire.connection import Connections, Invocation
from engine.adapters.redis.wire.keys import Keys
from engine.adapters.redis.wire.layouts import LAYOUTS, Argument
from engine.core.task import event
from engine.core.task.lifecycle import TaskStatus
from engine.core.task.priority import TaskPriority
from engine.errors import BrokerError
from engine.ports.client_broker import Submission

BATCH_TASKS = 250  # of one call: some 0.5 ms of Redis
BATCH_BYTES = 1_048_576  # of one call, unless a single task is larger

Batch = list[tuple[Submission, bytes]]


def submit(redis: Connections, keys: Keys, tasks: Sequence[Submission], idempotency_ms: int) -> list[str]:
    """Submit tasks; return their ids in order, an earlier task's id where its idempotency key is known.

    Each batch is taken in whole or not at all, and may be sent again: what was taken in is not taken in twice.
    Raises `BrokerError` if another task has one of the ids.
    """
    if len(tasks) == 1:
        batch = [(tasks[0], tasks[0].record.encode())]
        return _ids_of(batch, redis.run(*_invocation(keys, batch, redis.now_ms(), idempotency_ms)))
    ids: list[str] = []
    sent: deque[Batch] = deque()

    def invocations() -> Iterator[Invocation]:
        for batch in _batches(tasks):
            sent.append(batch)
            yield _invocation(keys, batch, redis.now_ms(), idempotency_ms)

    for reply in redis.run_stream(invocations()):
        ids += _ids_of(sent.popleft(), reply)
    return ids


def _invocation(keys: Keys, batch: Batch, now_ms: int, idempotency_ms: int) -> Invocation:
    for task, _ in batch:
        if _is_detailed(task):
            return _detailed(keys, batch, now_ms, idempotency_ms)
    return _plain(keys, batch, now_ms)


def _ids_of(batch: Batch, reply: bytes | list[Any]) -> list[str]:
    ids = [task.id for task, _ in batch]
    if reply == b"OK":
        return ids
    word, *earlier = reply if isinstance(reply, list) else [reply]
    if word == b"EXISTS":
        raise BrokerError(f"another task has one of the ids {ids[0]} … {ids[-1]}; these were not submitted")
    for n, task_id in zip(earlier[::2], earlier[1::2], strict=True):
        ids[n - 1] = task_id.decode()
    return ids


def _is_detailed(task: Submission) -> bool:
    options = task.record.options
    return bool(task.idempotency_key) or bool(
        options and ("due_ms" in options or "expires_ms" in options or "fair_key" in options))


def _batches(tasks: Sequence[Submission]) -> Iterator[Batch]:
    rest = iter(tasks)
    while few := list(islice(rest, BATCH_TASKS)):
        batch: Batch = []
        size = 0
        for task in few:
            stored = task.record.encode()
            if size + len(stored) > BATCH_BYTES and batch:
                yield batch
                batch, size = [], 0
            batch.append((task, stored))
            size += len(stored)
        yield batch


def _plain(keys: Keys, batch: Batch, now_ms: int) -> Invocation:
    lanes: dict[tuple[str, TaskPriority], list[Argument]] = {}
    for task, stored in batch:
        record = task.record
        lane = lanes.get((record.queue, record.priority))
        if lane is None:
            lane = lanes[record.queue, record.priority] = []
        lane += (task.id, stored)
    names = [*keys.of_submit]
    row = event.row([task.id for task, _ in batch], TaskStatus.QUEUED, 0)
    args = LAYOUTS["submit"].args(base=keys.base, event_row=row, now_ms=now_ms, lane_count=len(lanes))
    for (queue, priority), members in lanes.items():
        names += keys.of_lane(queue, priority)
        args += (queue, int(priority), len(members) // 2)
    for members in lanes.values():
        args += members
    return "submit", names, args


def _detailed(keys: Keys, batch: Batch, now_ms: int, idempotency_ms: int) -> Invocation:
    lanes: dict[tuple[str, TaskPriority], int] = {}
    remembered: dict[tuple[str, str], int] = {}
    told: list[Argument] = []
    for task, stored in batch:
        record, options = task.record, task.record.options
        lane = lanes.setdefault((record.queue, record.priority), len(lanes) + 1)
        key = 0
        if task.idempotency_key:
            key = remembered.setdefault((record.queue, task.idempotency_key), len(remembered) + 1)
        told += (task.id, stored, lane, int(record.priority), options.get("fair_key", ""),
                 options.get("due_ms", 0), options.get("expires_ms", 0), key)
    layout = LAYOUTS["submit_detailed"]
    names = layout.keys(keys)
    for queue, priority in lanes:
        names += keys.of_lane(queue, priority)
    names += (keys.idempotency(queue, key) for queue, key in remembered)
    args = layout.args(now_ms=now_ms, base=keys.base, idempotency_ms=idempotency_ms, lane_count=len(lanes))
    return "submit_detailed", names, [*args, *(queue for queue, _ in lanes), *told]
