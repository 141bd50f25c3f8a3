"""Changing what was said about a task that has not started: name, tags, limits, priority; all of it or nothing."""

from collections.abc import Collection, Mapping
from typing import Any, cast

from engine.adapters.redis.tasks.restore_states import look_restored
from engine.adapters.redis.tasks.task_actions import TRIES
from engine.adapters.redis.wire.connection import Connections
from engine.adapters.redis.wire.keys import Keys
from engine.adapters.redis.wire.layouts import LAYOUTS
from engine.core.task.priority import TaskPriority
from engine.core.task.record import Record, RecordOptions
from engine.core.task.stored_task import StoredTask
from engine.errors import BrokerError, ChangedMeanwhile, MoveRefused, TaskNotFound


def amend(redis: Connections, keys: Keys, task_id: str, changes: Mapping[str, Any], priority: TaskPriority | None,
          versions: Collection[str] | None = None, *, kept_ms: int, verb: str = "change") -> None:
    """Set options of the record (None takes one away), and the priority. `verb` says in errors what was asked for.

    Raises `ChangedMeanwhile` if the task is in none of these versions, `MoveRefused` if it runs or has ended,
    `TaskNotFound`.
    """
    for _ in range(TRIES):
        stored = look_restored(redis, keys, [task_id], kept_ms)[0]
        if stored is None:
            raise TaskNotFound(task_id)
        if versions is not None and stored.version not in versions:
            raise ChangedMeanwhile(f"task {task_id} is not in version {' or '.join(sorted(versions))} any more")
        if stored.problem is not None:
            raise BrokerError(f"task {task_id} cannot be read: {stored.problem}")
        raw = redis.call("HGET", keys.tasks, task_id)
        if raw is None:
            continue
        word = _attempt(redis, keys, stored, raw, changes, stored.state.priority if priority is None else priority)
        if word == b"ILLEGAL":
            raise MoveRefused(task_id, verb, stored.state.status)
        if word == b"OK":
            return
    raise BrokerError(f"task {task_id} moved on {TRIES} times between reading and writing it")


def _attempt(redis: Connections, keys: Keys, stored: StoredTask, raw: bytes, changes: Mapping[str, Any],
             priority: TaskPriority) -> bytes:
    record = Record.decode(raw, stored.id)
    options = {name: value for name, value in {**record.options, **changes}.items() if value is not None}
    new_record = record._replace(options=cast(RecordOptions, options)).encode() if changes else raw
    queue, old = record.queue, stored.state.priority
    layout, (_, state, is_stored) = LAYOUTS["amend"], stored.seen
    names = layout.keys(keys, lane=keys.lane(queue, old), cursors=keys.cursors(queue, old),
                        new_lane=keys.lane(queue, priority), new_cursors=keys.cursors(queue, priority))
    args = layout.args(base=keys.base, now_ms=redis.now_ms(), id=stored.id, state=state, is_stored=is_stored,
                       record=raw, new_record=new_record, new_priority=int(priority), fair_key=stored.fair_key,
                       queue=queue)
    word: bytes = redis.run("amend", names, args)
    return word
