"""Searching for tasks by anything that is known of them, page by page and in order.

There is no index, as in finding.py. Ids sort by the time of submission, so up
to 20,000 candidates are put in order by their ids alone, and a range of that
time costs no look at a task. Beyond that many they come as they lie, status by
status, and the page says so.

A cursor names the task before, not a position: tasks that come and go between
two pages neither repeat nor hide others.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from engine.adapters.redis.tasks.finding import LOOK_TASKS, SCAN_MAX, Place, Places, Wanted
from engine.adapters.redis.tasks.lanes import told_all, waiting_keys
from engine.adapters.redis.tasks.task_reading import known, look, sorted_out, supervisor_names
from engine.adapters.redis.wire.connection import Connections
from engine.adapters.redis.wire.keys import Keys
from engine.core.task.lifecycle import TaskStatus
from engine.core.task.outcome import is_quarantined
from engine.core.task.priority import TaskPriority
from engine.core.task.stored_task import StoredTask
from engine.core.task.task_id import created_ms
from engine.errors import InvalidOption

SORTED_MAX = 20_000
_COUNT = {"hash": "HLEN", "set": "SCARD", "zset": "ZCARD"}
_MEMBERS = {"hash": "HKEYS", "set": "SMEMBERS"}
EVER = (float("-inf"), float("inf"))

Range = tuple[float, float]  # ms of Redis's clock, both ends included


@dataclass(frozen=True, slots=True)
class Search:
    """Only tasks that agree with all that is given. `queues` are those one may see, if not all."""

    statuses: tuple[TaskStatus, ...] = ()
    task_type: str | None = None
    queue: str | None = None
    queues: frozenset[str] | None = None
    priority: TaskPriority | None = None
    name: str | None = None
    tags: frozenset[str] = frozenset()
    quarantined: bool | None = None  # set aside, having cost too many workers
    text: str | None = None  # in the name, the type, a tag, the payload or the error; upper and lower case are the same
    created_ms: Range = EVER
    started_ms: Range = EVER
    ended_ms: Range = EVER
    oldest_first: bool = False

    def agrees(self, stored: StoredTask) -> bool:
        record, options = stored.record, stored.record.options
        return ((not self.statuses or stored.life.status in self.statuses)
                and self.task_type in (None, record.task_type)
                and self.queue in (None, record.queue)
                and (self.queues is None or record.queue in self.queues)
                and self.priority in (None, stored.life.priority)
                and self.name in (None, options.get("name"))
                and self.tags.issubset(options.get("tags", ()))
                and self.quarantined in (None, is_quarantined(stored.life.status, stored.outcome))
                and _within(record.created_ms, self.created_ms)
                and _within(_started_ms(stored), self.started_ms)
                and _within((stored.outcome or {}).get("ended_ms"), self.ended_ms)
                and (self.text is None or _says(stored, self.text.casefold())))


class Page(NamedTuple):
    """`is_sorted` is False where there were too many candidates to put in order."""

    tasks: list[StoredTask]
    cursor: str | None
    is_sorted: bool


def search(redis: Connections, keys: Keys, wanted: Search, limit: int, cursor: str | None) -> Page:
    """Up to `limit` tasks that agree, and the cursor for the next page, None after the last.

    A page ends early when 5,000 tasks had to be looked at for it. Raises `InvalidOption` for a cursor that is none.
    """
    candidates = _Candidates(redis, keys, wanted)
    try:
        is_sorted = {"s": True, "p": False}[cursor[:1]] if cursor else candidates.count() <= SORTED_MAX
        places = candidates.in_order(cursor) if is_sorted else candidates.as_they_lie(cursor)
        return _page(redis, keys, wanted, places, limit, is_sorted)
    except (ValueError, KeyError, IndexError) as error:
        raise InvalidOption("this is not the cursor of a page", field="cursor", value=str(cursor)[:80],
                            limit="what the page before gave") from error


def _page(redis: Connections, keys: Keys, wanted: Search, places: Iterator[list[Place]], limit: int,
          is_sorted: bool) -> Page:
    found: list[StoredTask] = []
    seen, cursor = 0, None
    for few in places:
        tasks = look(redis, keys, [task_id for task_id, _ in few])
        for (_, behind), stored in zip(few, tasks, strict=True):
            cursor = behind
            if stored is not None and wanted.agrees(stored):
                found.append(stored)
                if len(found) == limit:
                    return Page(found, cursor, is_sorted)
        seen += len(few)
        if seen >= SCAN_MAX:
            return Page(found, cursor, is_sorted)
    return Page(found, None, is_sorted)


class _Candidates:
    """The ids that may be wanted."""

    def __init__(self, redis: Connections, keys: Keys, wanted: Search) -> None:
        self._redis, self._keys, self._wanted = redis, keys, wanted

    def count(self) -> int:
        """At least as many as there are."""
        commands = [(_COUNT[kind], key) for kind, key in self._sets()]
        return sum(told_all(self._redis, commands))

    def in_order(self, cursor: str | None) -> Iterator[list[Place]]:
        """The cursor is "s" and the id before."""
        newest, last = not self._wanted.oldest_first, cursor[1:] if cursor else None
        low, high = self._wanted.created_ms
        commands = [("ZRANGE", key, 0, -1) if kind == "zset" else (_MEMBERS[kind], key) for kind, key in self._sets()]
        told = told_all(self._redis, commands)
        ids = {task_id for members in told for task_id in sorted_out(members)[0]}
        if last is not None:
            ids = {task_id for task_id in ids if (task_id < last if newest else task_id > last)}
        if self._wanted.created_ms != EVER:
            ids = {task_id for task_id in ids if low <= created_ms(task_id) <= high}
        ordered = sorted(ids, reverse=newest)
        for start in range(0, len(ordered), LOOK_TASKS):
            yield [(task_id, "s" + task_id) for task_id in ordered[start : start + LOOK_TASKS]]

    def as_they_lie(self, cursor: str | None) -> Iterator[list[Place]]:
        """The cursor is "p", the number of the status and behind a comma the place within it."""
        number, _, text = cursor[1:].partition(",") if cursor else ("0", "", "")
        place: str | None = text or None
        wanted = self._wanted
        for at, status in list(enumerate(wanted.statuses or (None,)))[int(number):]:
            fetch = Places(self._redis, self._keys).of(Wanted(
                status=status, queue=wanted.queue, priority=wanted.priority))
            while places := fetch(place, LOOK_TASKS):
                place = places[-1][1]
                yield [(task_id, f"p{at},{behind}") for task_id, behind in places]
            place = None

    def _sets(self) -> list[tuple[str, str]]:
        """The keys that hold the candidates, each behind its kind: hash, set or zset."""
        keys, wanted, names = self._keys, self._wanted, list[tuple[str, str]]()
        for status in wanted.statuses:
            if status is TaskStatus.QUEUED:
                names += [("zset", key) for key in waiting_keys(self._redis, keys, wanted.queue)]
            elif status is TaskStatus.RUNNING:
                names += [("set", keys.held(name)) for name in supervisor_names(self._redis, keys)]
            elif status in (TaskStatus.PENDING, TaskStatus.RETRYING):
                names.append(("zset", keys.due))
            else:
                names.append(("zset", keys.ended(status)))
        return list(dict.fromkeys(names)) if wanted.statuses else [("hash", keys.tasks)]


def every(redis: Connections, keys: Keys, wanted: Search, limit: int) -> list[StoredTask]:
    """Up to `limit` tasks that agree, over as many pages as that takes."""
    found: dict[str, StoredTask] = {}
    cursor = None
    while len(found) < limit:
        page = search(redis, keys, wanted, limit - len(found), cursor)
        found |= {stored.id: stored for stored in known(page.tasks)}
        cursor = page.cursor
        if cursor is None:
            break
    return list(found.values())


def _within(moment_ms: float | None, bounds: Range) -> bool:
    return bounds == EVER or (moment_ms is not None and bounds[0] <= moment_ms <= bounds[1])


def _started_ms(stored: StoredTask) -> float | None:
    if stored.life.status is TaskStatus.RUNNING:
        return stored.life.at_ms
    started: float | None = (stored.outcome or {}).get("started_ms")
    return started


def _says(stored: StoredTask, text: str) -> bool:
    options, error = stored.record.options, (stored.outcome or {}).get("error") or {}
    said = (options.get("name", ""), stored.record.task_type, *options.get("tags", ()), error.get("kind") or "",
            error.get("message") or "", stored.record.payload.decode(errors="replace"))
    return any(text in part.casefold() for part in said)
