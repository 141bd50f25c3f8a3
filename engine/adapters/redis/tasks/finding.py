"""Finding tasks by what is known of them, page by page.

There is no index beyond those that the engine needs to work: a status is
looked up in the set that holds it, the newest first; without a status all
tasks are gone through, sorted while they are few. A page ends early when too
many had to be looked at for it; its cursor leads on.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from engine.adapters.redis.tasks.lanes import waiting_keys
from engine.adapters.redis.tasks.task_reading import look, sorted_out, supervisor_names
from engine.adapters.redis.wire.connection import Connections
from engine.adapters.redis.wire.keys import Keys
from engine.core.task.lifecycle import FINAL, TaskStatus
from engine.core.task.outcome import is_quarantined
from engine.core.task.priority import TaskPriority
from engine.core.task.stored_task import StoredTask
from engine.errors import InvalidOption

LOOK_TASKS = 200  # at once
SCAN_MAX = 5_000  # tasks looked at for one page
SORTED_MAX = 10_000  # up to so many tasks in all are sorted; beyond, they come as they lie

Place = tuple[str, str]  # an id, and the cursor that leads on behind it


@dataclass(frozen=True, slots=True)
class Wanted:
    """Only tasks that agree with all that is not None."""

    status: TaskStatus | None = None
    task_type: str | None = None
    queue: str | None = None
    priority: TaskPriority | None = None
    name: str | None = None
    tag: str | None = None
    quarantined: bool | None = None  # whether it was set aside, having cost too many workers

    def agrees(self, stored: StoredTask) -> bool:
        record, options = stored.record, stored.record.options
        return ((self.status is None or stored.life.status is self.status)
                and (self.task_type is None or record.task_type == self.task_type)
                and (self.queue is None or record.queue == self.queue)
                and (self.priority is None or stored.life.priority == self.priority)
                and (self.name is None or options.get("name") == self.name)
                and (self.tag is None or self.tag in options.get("tags", ()))
                and self.quarantined in (None, is_quarantined(stored.life.status, stored.outcome)))


def find(redis: Connections, keys: Keys, wanted: Wanted, limit: int,
         cursor: str | None) -> tuple[list[StoredTask], str | None]:
    """Up to `limit` tasks, and the cursor for the next page, or None after the last.

    Raises `InvalidOption` for a cursor that is none.
    """
    fetch = Places(redis, keys).of(wanted)
    found: list[StoredTask] = []
    seen = 0
    while seen < SCAN_MAX:
        try:
            places = fetch(cursor, LOOK_TASKS)
        except ValueError as error:
            raise InvalidOption(f"{cursor!r} is not the cursor of a page", field="cursor", value=str(cursor),
                                limit="what the page before gave") from error
        if not places:
            return found, None
        for (_, behind), stored in zip(places, look(redis, keys, [task_id for task_id, _ in places]), strict=True):
            cursor = behind
            if stored is not None and wanted.agrees(stored):
                found.append(stored)
                if len(found) == limit:
                    return found, cursor
        seen += len(places)
    return found, cursor


class Places:
    """The ids that may be wanted, from a cursor on."""

    def __init__(self, redis: Connections, keys: Keys) -> None:
        self._redis, self._keys = redis, keys

    def of(self, wanted: Wanted) -> Callable[[str | None, int], list[Place]]:
        keys, status = self._keys, wanted.status
        if wanted.quarantined and status is None:
            status = TaskStatus.FAILED  # what a task is that was set aside
        if status is TaskStatus.QUEUED:
            lines = waiting_keys(self._redis, keys, wanted.queue, wanted.priority)
            return lambda cursor, count: self._in_zsets(lines, cursor, count)
        if status in (TaskStatus.PENDING, TaskStatus.RETRYING):
            return lambda cursor, count: self._in_zsets([keys.due], cursor, count)
        if status in FINAL:
            return lambda cursor, count: self._in_zsets([keys.ended(status)], cursor, count)
        if status is TaskStatus.RUNNING:
            return lambda cursor, count: _sorted(self._running(), cursor, count)
        return self._all

    def _in_zsets(self, zsets: list[str], cursor: str | None, count: int) -> list[Place]:
        """From the highest score down, zset by zset; the cursor is "number score id" of the place before."""
        number, score, last = (cursor or "0 +inf ~").split(" ")
        first, start = int(number), float(score)
        for at in range(first, len(zsets)):
            places: list[Place] = []
            offset = 0
            while True:  # as many as share the score of the cursor, and no more, are read in vain
                told = self._redis.call("ZREVRANGEBYSCORE", zsets[at], start if at == first else "+inf", "-inf",
                                        "WITHSCORES", "LIMIT", offset, count)
                for member, text in zip(told[::2], told[1::2], strict=True):
                    task_id = member.decode(errors="replace")
                    if at > first or float(text) < start or task_id < last:
                        places.append((task_id, f"{at} {float(text)!r} {task_id}"))
                offset += count
                if places or len(told) < 2 * count:
                    break
            if places:
                return places
        return []

    def _running(self) -> list[bytes]:
        return [task_id for name in supervisor_names(self._redis, self._keys)
                for task_id in self._redis.call("SMEMBERS", self._keys.held(name))]

    def _all(self, cursor: str | None, count: int) -> list[Place]:
        if cursor is None and self._redis.call("HLEN", self._keys.tasks) > SORTED_MAX:
            cursor = "scan 0 ~"
        if cursor is not None and cursor.startswith("scan "):
            return self._scanned(cursor, count)
        return _sorted(self._redis.call("HKEYS", self._keys.tasks), cursor, count)

    def _scanned(self, cursor: str, count: int) -> list[Place]:
        """As they lie; the cursor is "scan position id", and that page is read again behind the id."""
        _, position, last = cursor.split(" ")
        if position == "end":
            return []
        while True:
            following, told = self._redis.call("HSCAN", self._keys.tasks, int(position), "COUNT", count)
            ids = sorted(sorted_out(told[::2])[0], reverse=True)
            after = "end" if following == b"0" else following.decode()
            places = [(task_id, f"scan {position} {task_id}") for task_id in ids if task_id < last]
            if places:
                return [*places[:-1], (places[-1][0], f"scan {after} ~")]
            if after == "end":
                return []
            position, last = after, "~"


def _sorted(ids: list[bytes], cursor: str | None, count: int) -> list[Place]:
    """The newest first; the cursor is the id before."""
    last = cursor or "~"
    newest: list[Any] = sorted((name for name in sorted_out(ids)[0] if name < last), reverse=True)
    return [(task_id, task_id) for task_id in newest[:count]]
