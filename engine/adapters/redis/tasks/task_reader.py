"""Reading tasks as they are stored, and numbering the lanes that a script is to touch."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from engine.adapters.redis.wire.connection import Connections
from engine.adapters.redis.wire.keys import Keys
from engine.adapters.redis.wire.layouts import LAYOUTS
from engine.core.task import stored_json
from engine.core.task.lifecycle import TaskStatus
from engine.core.task.priority import TaskPriority
from engine.core.task.record import MOMENT_MS_MAX
from engine.core.task.state import StoredState
from engine.core.task.stored_task import StoredTask, parse
from engine.core.task.task_id import is_task_id

BATCH_TASKS = 250  # looked at in one script call


class EncodedTask(NamedTuple):
    """A task as Redis answered: read when somebody asks, and then only what is asked for."""

    id: str
    record: bytes
    line: bytes | None
    told: bytes | None  # the outcome of its latest run; None where the line cannot be read
    progress: bytes | None

    @property
    def status(self) -> TaskStatus:
        if self.line is None:
            return TaskStatus.QUEUED
        return StoredState.status_of(self.line) or self.stored().state.status

    def outcome(self) -> dict[str, Any] | None:
        """The outcome of its latest run, if that has ended."""
        return stored_json.outcome(self.told, 0) if self.told else self.stored().outcome

    def result(self) -> Any:
        """What its latest run returned, None if it did not."""
        return stored_json.result(self.told) if self.told else (self.outcome() or {}).get("result")

    def stored(self) -> StoredTask:
        return parse(self.id, self.record, self.line, self.told, self.progress)


def look(redis: Connections, keys: Keys, ids: Sequence[str]) -> list[StoredTask | None]:
    """Read tasks; None where there is none. One that cannot be read has a `problem`."""
    return [None if raw is None else raw.stored() for raw in look_raw(redis, keys, ids)]


def look_raw(redis: Connections, keys: Keys, ids: Sequence[str], *,
             records: bool = True) -> Iterator[EncodedTask | None]:
    """As `look`, with nothing read yet; without `records` they are all empty. Ids that cannot be any give None."""
    layout = LAYOUTS["get_tasks"]
    names = layout.keys(keys)
    start = 0
    while start < len(ids):
        few = ids[start : start + BATCH_TASKS]
        told = redis.run("get_tasks", names, [*layout.args(wants_records="1" if records else "0"), *few])
        assert len(told) >= 4, "an answer has one task at the least"
        fields = iter(told)
        for task_id, *found in zip(few, fields, fields, fields, fields, strict=False):
            yield None if found[0] is None or not is_task_id(task_id) else EncodedTask(task_id, *found)
        start += len(told) // 4


def sorted_out(members: Iterable[bytes]) -> tuple[list[str], list[bytes]]:
    """Which members of a collection are ids, and those that are none: the engine has not put them there."""
    ids: list[str] = []
    strangers: list[bytes] = []
    for member in members:
        text = member.decode("ascii", "replace")
        if is_task_id(text):
            ids.append(text)
        else:
            strangers.append(member)
    return ids, strangers


def supervisor_names(redis: Connections, keys: Keys) -> list[str]:
    """The supervisors that have a lease, or had one that nobody has cleared up after."""
    return [name.decode(errors="replace") for name in redis.call("ZRANGE", keys.supervisors, 0, -1)]


def moment(score: bytes) -> int:
    """A moment in ms as a sorted set keeps it, which may also be infinite."""
    return int(max(0.0, min(float(score), MOMENT_MS_MAX)))


def known(found: Sequence[StoredTask | None]) -> list[StoredTask]:
    return [stored for stored in found if stored is not None]


def readable(found: Sequence[StoredTask | None]) -> list[StoredTask]:
    return [stored for stored in found if stored is not None and stored.problem is None]


def deliveries(redis: Connections, keys: Keys, found: Sequence[StoredTask]) -> dict[str, int | None]:
    """How often each task may be started, None for no bound: as its record says, else as pools announce its handler,
    since a task may have been submitted before anybody had heard of that."""
    bounds = {stored.id: stored.record.options.get("max_deliveries") for stored in found}
    types = sorted({stored.record.task_type for stored in found if bounds[stored.id] is None})
    told = redis.call("HMGET", keys.handlers, *types) if types else []
    announced = {task_type: stored_json.announcement(text or b"").get("max_deliveries")
                 for task_type, text in zip(types, told, strict=True)}
    for stored in found:
        bound = announced.get(stored.record.task_type)
        if bounds[stored.id] is None and isinstance(bound, int) and bound > 0:
            bounds[stored.id] = bound
    return bounds


class Lanes:
    """Lanes of queues in the order in which a script is given their keys."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._numbers: dict[tuple[str, TaskPriority], int] = {}

    def number(self, queue: str, priority: TaskPriority) -> int:
        """The number, from 1, by which the script knows this lane."""
        return self._numbers.setdefault((queue, priority), len(self._numbers) + 1)

    def names(self, *, cursors: bool = True) -> list[str]:
        """The keys: each lane, followed by its cursors unless the script does not touch them."""
        names = []
        for queue, priority in self._numbers:
            names.append(self._keys.lane(queue, priority))
            if cursors:
                names.append(self._keys.cursors(queue, priority))
        return names

    def queues(self) -> list[str]:
        """The queue of each lane."""
        return [queue for queue, _ in self._numbers]
