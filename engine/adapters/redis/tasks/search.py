"""Searching for tasks by anything that is known of them, page by page.

There is no index beyond the collections that the engine needs to work: the lanes, the set of due tasks, what each
supervisor runs, and the tasks that have ended, by status. Up to 20,000 candidates are put in order by their ids, and
a range of submission times costs no look at a task. More candidates, or a search that asks for no order, are gone
through collection by collection, and the page says that it is not sorted.

A cursor names the task before, not a position: tasks that come and go between two pages neither repeat nor hide
others. Its forms:

    s<id>                       sorted, after this task
    c<number>,<score> <id>      in collection <number>, a sorted set, after this task and its score
    c<number>,<scan> <id>       in collection <number>, a set or hash, at this cursor of its scan, after this task
"""

from collections.abc import Iterator

from engine.adapters.redis.tasks.lanes import told_all, waiting_keys
from engine.adapters.redis.tasks.task_reader import look, sorted_out, supervisor_names
from engine.adapters.redis.wire.connection import Connections
from engine.adapters.redis.wire.keys import Keys
from engine.core.task.lifecycle import TaskStatus
from engine.core.task.query import EVER, Order, QueryPage, TaskQuery
from engine.core.task.stored_task import StoredTask
from engine.core.task.task_id import created_ms
from engine.errors import InvalidOption

LOOK_TASKS = 200  # at once
SCAN_MAX = 5_000  # tasks looked at for one page
SORTED_MAX = 20_000  # candidates
_SCAN_CURSOR_MAX = (1 << 64) - 1
_LAST = "~"  # sorts after every id
_END = "end"  # of a scan

_COUNT = {"hash": "HLEN", "set": "SCARD", "zset": "ZCARD"}
_MEMBERS = {"hash": ("HKEYS",), "set": ("SMEMBERS",), "zset": ("ZRANGE", 0, -1)}

Candidate = tuple[str, str]  # an id, and the cursor that continues after it


def search(redis: Connections, keys: Keys, query: TaskQuery, limit: int, cursor: str | None) -> QueryPage:
    """Up to `limit` tasks that match, and the cursor for the next page.

    A page ends early when 5,000 tasks had to be looked at for it. Raises `InvalidOption` for a cursor that is none.
    """
    candidates = _Candidates(redis, keys, query)
    try:
        is_sorted = {"s": True, "c": False}[cursor[:1]] if cursor else candidates.can_be_sorted()
        found = candidates.in_order(cursor) if is_sorted else candidates.as_stored(cursor)
        return _page(redis, keys, query, found, limit, is_sorted)
    except (ValueError, KeyError, IndexError) as error:
        raise InvalidOption(f"{str(cursor)[:80]!r} is not the cursor of a page", field="cursor", value=str(cursor)[:80],
                            limit="what the page before gave") from error


def _page(redis: Connections, keys: Keys, query: TaskQuery, candidates: Iterator[list[Candidate]], limit: int,
          is_sorted: bool) -> QueryPage:
    found: list[StoredTask] = []
    seen, cursor = 0, None
    for few in candidates:
        tasks = look(redis, keys, [task_id for task_id, _ in few])
        for (_, behind), stored in zip(few, tasks, strict=True):
            cursor = behind
            if stored is not None and query.matches(stored):
                found.append(stored)
                if len(found) == limit:
                    return QueryPage(found, cursor, is_sorted)
        seen += len(few)
        if seen >= SCAN_MAX:
            return QueryPage(found, cursor, is_sorted)
    return QueryPage(found, None, is_sorted)


class _Candidates:
    """The ids that may match: the members of the collections that hold the statuses asked for."""

    def __init__(self, redis: Connections, keys: Keys, query: TaskQuery) -> None:
        self._redis, self._query = redis, query
        self._collections = list(_collections(redis, keys, query))

    def can_be_sorted(self) -> bool:
        """Whether there are few enough to put in order. A sorted set has one already, for a search that asks for none.
        """
        if self._query.order is Order.ANY and any(kind == "zset" for kind, _ in self._collections):
            return False
        counts: list[int] = told_all(self._redis, [(_COUNT[kind], key) for kind, key in self._collections])
        return sum(counts) <= SORTED_MAX

    def in_order(self, cursor: str | None) -> Iterator[list[Candidate]]:
        newest, last = self._query.order is not Order.OLDEST, cursor[1:] if cursor else None
        low, high = self._query.created_ms
        commands = [(_MEMBERS[kind][0], key, *_MEMBERS[kind][1:]) for kind, key in self._collections]
        ids = {task_id for members in told_all(self._redis, commands) for task_id in sorted_out(members)[0]}
        if last is not None:
            ids = {task_id for task_id in ids if (task_id < last if newest else task_id > last)}
        if self._query.created_ms != EVER:
            ids = {task_id for task_id in ids if low <= created_ms(task_id) <= high}
        ordered = sorted(ids, reverse=newest)
        for start in range(0, len(ordered), LOOK_TASKS):
            yield [(task_id, "s" + task_id) for task_id in ordered[start : start + LOOK_TASKS]]

    def as_stored(self, cursor: str | None) -> Iterator[list[Candidate]]:
        number, _, place = cursor[1:].partition(",") if cursor else ("0", "", "")
        if not number.isdecimal():
            raise ValueError(number)
        for at, (kind, key) in list(enumerate(self._collections))[int(number):]:
            while few := self._of_zset(key, place) if kind == "zset" else self._of_scan(kind, key, place):
                yield [(task_id, f"c{at},{behind}") for task_id, behind in few]
                place = few[-1][1]
            place = ""

    def _of_zset(self, key: str, place: str) -> list[Candidate]:
        """From the highest score down, after the score and id of a place."""
        score, last = place.split(" ") if place else ("+inf", _LAST)
        start, offset = float(score), 0
        if start != start:
            raise ValueError(score)
        while True:  # as many as share the score of the place, and no more, are read in vain
            told = self._redis.call("ZREVRANGEBYSCORE", key, start, "-inf", "WITHSCORES", "LIMIT", offset, LOOK_TASKS)
            members = [(member.decode(errors="replace"), float(text))
                       for member, text in zip(told[::2], told[1::2], strict=True)]
            few = [(task_id, f"{at!r} {task_id}") for task_id, at in members if at < start or task_id < last]
            offset += LOOK_TASKS
            if few or len(members) < LOOK_TASKS:
                return few

    def _of_scan(self, kind: str, key: str, place: str) -> list[Candidate]:
        """As a scan gives them. The page of the scan that a place is in is read again, after the id of the place."""
        if place == _END:
            return []
        position, last = place.split(" ") if place else ("0", _LAST)
        if not 0 <= int(position) <= _SCAN_CURSOR_MAX:
            raise ValueError(position)
        while True:
            command = ("HSCAN" if kind == "hash" else "SSCAN", key, int(position), "COUNT", LOOK_TASKS)
            following, told = self._redis.call(*command)
            ids = sorted(sorted_out(told[::2] if kind == "hash" else told)[0], reverse=True)
            after = _END if following == b"0" else f"{following.decode()} {_LAST}"
            few = [(task_id, f"{position} {task_id}") for task_id in ids if task_id < last]
            if few:
                return [*few[:-1], (few[-1][0], after)]
            if after == _END:
                return []
            position, last = following.decode(), _LAST


def _collections(redis: Connections, keys: Keys, query: TaskQuery) -> dict[tuple[str, str], None]:
    """The keys that hold the candidates, each with its kind: hash, set or zset."""
    statuses = query.statuses
    if query.quarantined and not statuses:
        statuses = (TaskStatus.FAILED,)  # the status of a task that was set aside
    found: list[tuple[str, str]] = []
    for status in statuses:
        if status is TaskStatus.QUEUED:
            found += [("zset", key) for key in waiting_keys(redis, keys, query.queue, query.priority)]
        elif status is TaskStatus.RUNNING:
            found += [("set", keys.running(name)) for name in supervisor_names(redis, keys)]
        elif status in (TaskStatus.PENDING, TaskStatus.RETRYING):
            found.append(("zset", keys.due))
        else:
            found.append(("zset", keys.ended(status)))
    return dict.fromkeys(found) if statuses else {("hash", keys.tasks): None}
