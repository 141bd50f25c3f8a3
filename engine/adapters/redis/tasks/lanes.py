"""Which lines have waiting tasks: those of queues and priorities, and beside them those of types that wait aside.

Law: what is read here grows with the lines that have tasks, never with the queues that ever were. A line that has just
become empty may still be named.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from engine.adapters.redis.wire.connection import Command, Connections
from engine.adapters.redis.wire.keys import Keys
from engine.core.task.names import is_queue_name
from engine.core.task.priority import DESCENDING, TaskPriority

TYPES_MAX = 1_000  # told apart in what is shown; those that sort first. What is counted or done is for all
COMMANDS_MAX = 4_000  # in one round trip


class Lane(NamedTuple):
    queue: str
    priority: TaskPriority
    task_type: str | None  # of a line aside
    key: str


def types_aside(redis: Connections, keys: Keys, limit: int | None = None) -> list[str]:
    """The types of which tasks may wait aside, since a pool met them that does not know them, or so many of them."""
    names = (name.decode(errors="replace") for name in redis.call("SMEMBERS", keys.types_aside))
    return sorted(names)[:limit]


def waiting_lanes(redis: Connections, keys: Keys) -> list[Lane]:
    """All lines that may have tasks, the highest priority first, those of types behind the others."""
    kinds = [(kind, priority) for kind in (None, *types_aside(redis, keys)) for priority in DESCENDING]
    told = told_all(redis, [("ZRANGE", keys.round_robin(priority, kind), 0, -1) for kind, priority in kinds])
    found: list[Lane] = []
    for (kind, priority), members in zip(kinds, told, strict=True):
        names = sorted(filter(is_queue_name, (member.decode(errors="replace") for member in members)))
        found += [Lane(queue, priority, kind, keys.lane(queue, priority, kind)) for queue in names]
    return found


def lanes_of(redis: Connections, keys: Keys, queue: str,
             priorities: Sequence[TaskPriority] = DESCENDING) -> list[Lane]:
    """The lines of one queue: the four of its priorities in any case, and those aside that may have tasks."""
    found = [Lane(queue, priority, None, keys.lane(queue, priority)) for priority in priorities]
    kinds = [(kind, priority) for kind in types_aside(redis, keys) for priority in priorities]
    told = told_all(redis, [("ZSCORE", keys.round_robin(priority, kind), queue) for kind, priority in kinds])
    return found + [Lane(queue, priority, kind, keys.lane(queue, priority, kind))
                    for (kind, priority), score in zip(kinds, told, strict=True) if score is not None]


def waiting_keys(redis: Connections, keys: Keys, queue: str | None = None,
                 priority: TaskPriority | None = None) -> list[str]:
    """The keys of the lines that may have tasks, of one queue and priority if these are given."""
    if queue is not None:
        return [lane.key for lane in lanes_of(redis, keys, queue, DESCENDING if priority is None else [priority])]
    return [lane.key for lane in waiting_lanes(redis, keys) if priority in (None, lane.priority)]


def queues_aside(redis: Connections, keys: Keys) -> set[str]:
    """The queues in which tasks may wait aside."""
    kinds = types_aside(redis, keys)
    told = told_all(redis, [("ZRANGE", keys.round_robin(priority, kind), 0, -1)
                            for kind in kinds for priority in DESCENDING])
    return {member.decode(errors="replace") for members in told for member in members}


def told_all(redis: Connections, commands: Sequence[Command]) -> list[Any]:
    """The replies to any number of commands, in bounded round trips."""
    return [reply for start in range(0, len(commands), COMMANDS_MAX)
            for reply in redis.call_all(commands[start : start + COMMANDS_MAX])]
