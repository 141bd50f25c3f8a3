"""Looking for what cannot be: tasks in no place, ids where they do not belong. Counted, and put right.

None of it should happen while the scripts are right and Redis keeps its data;
an append-only file that was cut off, or an operator's hand, can bring it about.
What is read here may be out of date, so each suspect is checked again in the
script that mends it.
"""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from engine.adapters.redis.connection import Argument, Connections
from engine.adapters.redis.keys import Keys
from engine.adapters.redis.looking import Stored, deliveries, known, look, queue_names, sorted_out, supervisor_names
from engine.adapters.redis.operating import ENDS, Operating
from engine.core.lifecycle import Move, TaskStatus
from engine.core.priority import DESCENDING

SCAN_COUNT = 200  # ids of one look
AHEAD_MS = 2000  # no two processes that have asked Redis for the time differ by so much

Cursor = tuple[int, bytes]  # which collection, and where in it
Suspect = tuple[str, str, bytes, int, list[str], str, str]  # what, id, line, is it stored, keys, fair key, queue

_errors = logging.getLogger("ganger.errors")


@dataclass(slots=True)
class Reconciled:
    """One look. `cursor` leads on, None after the last; `mended` counts by what was wrong."""

    cursor: Cursor | None
    checked: int = 0
    mended: Counter[str] = field(default_factory=Counter)


class Reconciling:
    """Goes through every collection in turn: the tasks, the life lines, and all that holds ids."""

    def __init__(self, redis: Connections, keys: Keys, operating: Operating, kept_ms: int) -> None:
        self._redis, self._keys, self._operating, self._kept_ms = redis, keys, operating, kept_ms
        self._bounds: dict[str, int | None] = {}  # of the running tasks that are looked at now

    def set_aside(self, found: Sequence[Stored]) -> Counter[str]:
        """Let tasks fail that cannot be read, with an outcome that says so; return how many by what was wrong.

        One whose record is broken ends by its life line, and, if it runs, by its supervisor. One whose life line is
        broken gets a new one, with a run number that no run of it can have had.
        """
        waiting = [stored for stored in found if not stored.is_lost and stored.life.status is not TaskStatus.RUNNING
                   and not stored.life.status.is_final]
        withdrawn = self._operating.withdraw(waiting, Move.EXPIRE).count(b"OK") if waiting else 0
        keys = self._keys
        lost = [("lost", stored.id, stored.seen[1], 1, [keys.ended(TaskStatus.FAILED), keys.outcomes, keys.due], "", "")
                for stored in found if stored.is_lost]
        done = +(self._mend(lost) + Counter(unreadable=withdrawn))
        if done:
            self._redis.run("tally", [keys.counters], ["unreadable", done.total()])
            for stored in found:
                _errors.error("a task cannot be read", extra={"task_id": stored.id, "reason": stored.problem})
        return done

    def some(self, cursor: Cursor | None) -> Reconciled:
        collections = self._collections()
        at, position = cursor or (0, b"0")
        if at >= len(collections):
            return Reconciled(None)
        scan, key, status = collections[at]
        where, told = self._redis.call(scan, key, position, "COUNT", SCAN_COUNT)
        members = told if scan == "SSCAN" else told[::2]
        if status == "flows":
            result = Reconciled(None, len(members), +Counter(flows=self._trim(key, members)))
        else:
            result = Reconciled(None, len(members), self._look_through(scan, key, status, members))
        more = (at, where) if where != b"0" else (at + 1, b"0")
        result.cursor = more if more[0] < len(collections) else None
        return result

    def _look_through(self, scan: str, key: str, kind: str, members: Sequence[bytes]) -> Counter[str]:
        """Find and mend what is wrong with members of a collection."""
        ids, strangers = sorted_out(members)
        if strangers:
            _errors.error("what is no task's id was removed", extra={
                "key": key, "members": [member[:80].decode(errors="replace") for member in strangers[:20]]})
            self._redis.call({"SSCAN": "SREM", "ZSCAN": "ZREM"}.get(scan, "HDEL"), key, *strangers)
        found = look(self._redis, self._keys, ids)
        running = [stored for stored in known(found) if stored.life.status is TaskStatus.RUNNING]
        self._bounds = deliveries(self._redis, self._keys, running) if running and kind == "task" else {}
        broken = [stored for stored in known(found) if stored.problem is not None] if kind == "task" else []
        suspects = [suspect for task_id, stored in zip(ids, found, strict=True)
                    if (suspect := self._suspect(key, kind, task_id, stored)) is not None]
        return self._mend(suspects) + self.set_aside(broken) + +Counter(stranger=len(strangers))

    def _collections(self) -> list[tuple[str, str, str]]:
        """How to go through each, its key, and what its members must be."""
        keys = self._keys
        queues = queue_names(self._redis, keys)
        names = sorted(supervisor_names(self._redis, keys))
        lines = [(queue, priority) for queue in queues for priority in DESCENDING]
        return [("HSCAN", keys.tasks, "task"), ("HSCAN", keys.life, "life"), ("ZSCAN", keys.due, "due"),
                *(("ZSCAN", keys.ended(status), status) for status in ENDS),
                *(("ZSCAN", keys.line(*line), TaskStatus.QUEUED) for line in lines),
                *(("SSCAN", keys.held(name), TaskStatus.RUNNING) for name in names),
                *(("HSCAN", keys.flows(*line), "flows") for line in lines)]

    def _suspect(self, key: str, kind: str, task_id: str, stored: Stored | None) -> Suspect | None:
        """What seems to be wrong with an id found in one of the collections."""
        if stored is None:
            line = self._redis.call("HGET", self._keys.life, task_id) or b""
            what = {"life": "life", TaskStatus.RUNNING: "set"}.get(kind, "zset")
            return (what, task_id, line, int(bool(line)), [key], "", "") if kind != "task" else None
        _, line, is_stored = stored.seen
        life, queue = stored.life, stored.record.queue
        if stored.problem is not None and (kind == "task" or life.status is TaskStatus.QUEUED):
            return None  # it is set aside, and nobody knows its queue
        if kind == "task":
            what, names = self._home(stored)
        elif kind == "life":
            return None
        elif kind == TaskStatus.RUNNING:
            what = "" if life.status is TaskStatus.RUNNING and key == self._keys.held(life.owner) else "set"
            names = [key]
        else:
            fits = life.status in ((TaskStatus.PENDING, TaskStatus.RETRYING) if kind == "due" else (kind,))
            if kind == "due" and life.status is TaskStatus.RETRYING and life.at_ms > self._redis.now_ms() + AHEAD_MS:
                return "ahead", task_id, line, is_stored, [key], "", ""
            is_elsewhere = kind == TaskStatus.QUEUED and key != self._keys.line(queue, life.priority)
            what, names = "" if fits and not is_elsewhere else "zset", [key]
        return (what, task_id, line, is_stored, names, stored.fair_key, queue) if what else None

    def _home(self, stored: Stored) -> tuple[str, list[str]]:
        """Where a task belongs by its life: the script looks whether it is there."""
        keys, life, queue = self._keys, stored.life, stored.record.queue
        line = [keys.line(queue, life.priority), keys.flows(queue, life.priority)]
        if life.status is TaskStatus.QUEUED:
            return "line", line
        if life.status is TaskStatus.RUNNING:
            bound = self._bounds.get(stored.id)
            if bound is not None and life.run >= bound:
                return "spent", [keys.held(life.owner), keys.ended(TaskStatus.FAILED), keys.outcomes]
            return "held", [keys.held(life.owner), *line]
        return ("ended", [keys.ended(life.status)]) if life.status.is_final else ("due", [keys.due])

    def _mend(self, suspects: Sequence[Suspect]) -> Counter[str]:
        if not suspects:
            return Counter()
        keys, now_ms = self._keys, self._redis.now_ms()
        names = [keys.tasks, keys.life, keys.supervisors, keys.idle, keys.events, keys.counters]
        args: list[Argument] = [keys.base, now_ms, now_ms + self._kept_ms]
        for what, task_id, line, is_stored, touched, fair_key, queue in suspects:
            args += (what, task_id, line, is_stored, len(names), fair_key, queue)
            names += touched
        words = self._redis.run("mend", names, args)
        return Counter(suspect[0] for suspect, word in zip(suspects, words, strict=True) if word == b"MENDED")

    def _trim(self, flows: str, fields: Sequence[bytes]) -> int:
        keys = [name for name in (field.decode(errors="replace") for field in fields) if name.startswith("k:")]
        return int(self._redis.run("trim_flows", [flows], keys)) if keys else 0
