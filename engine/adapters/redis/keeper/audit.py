"""Looking for what cannot be: tasks in no place, ids where they do not belong. Counted, and put right.

None of it should happen while the scripts are right and Redis keeps its data;
an append-only file that was cut off, or an operator's hand, can bring it about.
What is read here may be out of date, so each suspect is checked again in the
script that repairs it.
"""

import logging
from collections import Counter
from collections.abc import Sequence

from engine.adapters.redis.keeper.misplaced_keys import rename_misplaced
from engine.adapters.redis.tasks.lanes import Lane, queues_aside, told_all, waiting_lanes
from engine.adapters.redis.tasks.restore_states import look_restored, restore
from engine.adapters.redis.tasks.task_actions import ENDS, TaskActions
from engine.adapters.redis.tasks.task_reader import deliveries, known, look, sorted_out, supervisor_names
from engine.adapters.redis.wire.connection import Connections, check_schema
from engine.adapters.redis.wire.keys import Keys
from engine.adapters.redis.wire.layouts import LAYOUTS, Argument
from engine.core.task.lifecycle import Move, TaskStatus
from engine.core.task.names import is_queue_name
from engine.core.task.stored_task import StoredTask
from engine.errors import BrokerError, BrokerUnavailable, SchemaMismatch
from engine.ports.keeper_broker import AuditResult

SCAN_COUNT = 200  # ids of one look
AHEAD_MS = 2000  # no two processes that have asked Redis for the time differ by so much

# Queues that nobody uses for a day are forgotten, and the handlers of pools that are gone as long: so neither a rolling
# restart nor a night without a pool makes a submit fail.
UNUSED_MS = 86_400_000
LANES_AT_ONCE = 100  # in one script call
KEYS_PER_SUSPECT = 3  # that `repair` is given
SMALL_LANE = 50  # lanes up to this length are looked through several at once

Cursor = tuple[int, bytes]  # which collection, and where in it
Collection = tuple[str, list[str], str]  # how to go through it, its keys, and what its members must be
Suspect = tuple[str, str, bytes, int, list[str], str, str]  # what, id, line, is it stored, keys, fair key, queue

_errors = logging.getLogger("ganger.errors")


class Audit:
    """Goes through every collection in turn: the tasks, the stored states, and all that holds ids."""

    def __init__(self, redis: Connections, keys: Keys, actions: TaskActions, kept_ms: int) -> None:
        self._redis, self._keys, self._actions, self._kept_ms = redis, keys, actions, kept_ms
        self._bounds: dict[str, int | None] = {}  # of the running tasks that are looked at now
        self._plan: list[Collection] = []  # of the pass under way

    def set_aside(self, found: Sequence[StoredTask]) -> Counter[str]:
        """Let tasks fail that cannot be read, with an outcome that says so; return how many by what was wrong.

        One whose record is broken ends by its stored state, and, if it runs, by its supervisor. One whose stored state
        is broken gets a new one, with a run number that no run of it can have had.
        """
        check_schema(self._redis.call("GET", self._keys.schema))  # what a newer version has written is no fault
        waiting = [stored for stored in found if not stored.is_lost and stored.state.status is not TaskStatus.RUNNING
                   and not stored.state.status.is_final]
        withdrawn = self._actions.cancel_queued(waiting, Move.EXPIRE).count(b"OK") if waiting else 0
        keys = self._keys
        touched = [keys.ended(TaskStatus.FAILED), keys.outcomes, keys.due]
        lost = [("lost", stored.id, stored.seen[1], 1, touched, "", "") for stored in found if stored.is_lost]
        done = +(self._repair(lost) + Counter(unreadable=withdrawn))
        if done:
            layout = LAYOUTS["increment"]
            self._redis.run("increment", layout.keys(keys), layout.args(counter="unreadable", amount=done.total()))
            for stored in found:
                _errors.error("a task cannot be read", extra={"task_id": stored.id, "reason": stored.problem})
        return done

    def some(self, cursor: Cursor | None) -> AuditResult:
        if cursor is None or not self._plan:
            apart = rename_misplaced(self._redis, self._keys)
            self._plan = self._collections()
            if apart:
                return AuditResult((0, b"0"), repaired=Counter(misplaced=apart))
        at, position = cursor or (0, b"0")
        if at >= len(self._plan):
            return AuditResult(None)
        try:
            return self._look_at(at, position)
        except (BrokerUnavailable, SchemaMismatch):
            raise
        except BrokerError as error:
            _errors.error("a part of what is in Redis could not be looked through", extra={
                "keys": self._plan[at][1][:20], "reason": str(error)})
            return AuditResult(self._next(at, b"0"), repaired=Counter(unfit=1))

    def _next(self, at: int, where: bytes) -> Cursor | None:
        more = (at, where) if where != b"0" else (at + 1, b"0")
        return more if more[0] < len(self._plan) else None

    def _look_at(self, at: int, position: bytes) -> AuditResult:
        """Go through some of one collection."""
        scan, keys, kind = self._plan[at]
        if kind == "lines":
            self._plan += self._lanes()
            where, result = b"0", AuditResult(None)
        elif scan == "ZRANGE":
            where, result = b"0", AuditResult(None)
            for key, told in zip(keys, self._redis.call_all([("ZRANGE", key, 0, -1) for key in keys]), strict=True):
                result.checked += len(told)
                result.repaired += self._look_through(scan, key, kind, told)
        else:
            where, told = self._redis.call(scan, keys[0], position, "COUNT", SCAN_COUNT)
            members = told if scan == "SSCAN" else told[::2]
            result = AuditResult(None, len(members), self._members(scan, keys[0], kind, members))
        result.cursor = self._next(at, where)
        return result

    def _members(self, scan: str, key: str, kind: str, members: Sequence[bytes]) -> Counter[str]:
        if kind == "flows":
            return +Counter(flows=self._trim(key, members))
        if kind == "queues":
            return self._maintain_queues(members)
        return self._forget_handlers(members) if kind == "handlers" else self._look_through(scan, key, kind, members)

    def _look_through(self, scan: str, key: str, kind: str, members: Sequence[bytes]) -> Counter[str]:
        """Find and repair what is wrong with members of a collection."""
        ids, strangers = sorted_out(members)
        if strangers:
            self._tell_strangers(key, strangers)
            self._redis.call({"SSCAN": "SREM", "HSCAN": "HDEL"}.get(scan, "ZREM"), key, *strangers)
        if kind in ("task", TaskStatus.QUEUED):  # most of these have no stored state
            found = look(self._redis, self._keys, ids)
        else:
            found = look_restored(self._redis, self._keys, ids, self._kept_ms)
        running = [stored for stored in known(found) if stored.state.status is TaskStatus.RUNNING]
        self._bounds = deliveries(self._redis, self._keys, running) if running and kind == "task" else {}
        broken = [stored for stored in known(found) if stored.problem is not None] if kind == "task" else []
        suspects = [suspect for task_id, stored in zip(ids, found, strict=True)
                    if (suspect := self._suspect(key, kind, task_id, stored)) is not None]
        return self._repair(suspects) + self.set_aside(broken) + +Counter(stranger=len(strangers))

    def _collections(self) -> list[Collection]:
        """What there is to go through in this pass. The lanes are added at its end, once each is in its round robin."""
        keys = self._keys
        names = sorted(supervisor_names(self._redis, keys))
        return [("HSCAN", [keys.queues], "queues"), ("HSCAN", [keys.handlers], "handlers"),
                ("HSCAN", [keys.tasks], "task"), ("HSCAN", [keys.states], "life"), ("ZSCAN", [keys.due], "due"),
                *(("ZSCAN", [keys.ended(status)], status) for status in ENDS),
                *(("SSCAN", [keys.running(name)], TaskStatus.RUNNING) for name in names), ("", [], "lines")]

    def _lanes(self) -> list[Collection]:
        self._maintain_lanes(lines := waiting_lanes(self._redis, self._keys))
        sizes = told_all(self._redis, [("ZCARD", line.key) for line in lines])
        small = [line.key for line, size in zip(lines, sizes, strict=True) if 0 < size <= SMALL_LANE]
        return [*(("ZSCAN", [line.key], TaskStatus.QUEUED) for line, size in zip(lines, sizes, strict=True)
                  if size > SMALL_LANE),
                *(("ZRANGE", small[start : start + LANES_AT_ONCE], TaskStatus.QUEUED)
                  for start in range(0, len(small), LANES_AT_ONCE))]

    def _maintain_lanes(self, lines: Sequence[Lane]) -> None:
        """Take empty lanes out of the round robins; put those in that have tasks and are not paused any more."""
        keys, layout = self._keys, LAYOUTS["maintain_lanes"]
        for start in range(0, len(lines), LANES_AT_ONCE):
            told = [part for line in lines[start : start + LANES_AT_ONCE]
                    for part in (line.queue, line.priority.name, line.task_type or "")]
            args = layout.args(base=keys.base, now_ms=self._redis.now_ms())
            self._redis.run("maintain_lanes", layout.keys(keys), [*args, *told])

    def _maintain_queues(self, members: Sequence[bytes]) -> Counter[str]:
        """Put lanes that have tasks into the round robins; forget queues that were not used for long."""
        keys, layout = self._keys, LAYOUTS["maintain_queues"]
        names = {member: member.decode(errors="replace") for member in members}
        strangers = [member for member, name in names.items() if not is_queue_name(name)]
        if strangers:
            self._tell_strangers(keys.queues, strangers)
            self._redis.call("HDEL", keys.queues, *strangers)
        known = [name for name in names.values() if is_queue_name(name)]
        aside = queues_aside(self._redis, keys)
        turns = flows = 0
        for start in range(0, len(known), LANES_AT_ONCE):
            told = [part for name in known[start : start + LANES_AT_ONCE] for part in (name, int(name in aside))]
            args = layout.args(base=keys.base, now_ms=self._redis.now_ms(), unused_ms=UNUSED_MS)
            given, trimmed, _, *long = self._redis.run("maintain_queues", layout.keys(keys), [*args, *told])
            turns, flows = turns + given, flows + trimmed
            self._plan += [("HSCAN", [key.decode()], "flows") for key in long]
        return +Counter(turn=turns, flows=flows, stranger=len(strangers))

    def _forget_handlers(self, members: Sequence[bytes]) -> Counter[str]:
        """Those that no pool has announced for long. What nobody knows the age of begins to count now."""
        keys, now_ms = self._keys, self._redis.now_ms()
        if not members:
            return Counter()
        said = self._redis.call("ZMSCORE", keys.announced, *members)
        new = [name for name, at_ms in zip(members, said, strict=True) if at_ms is None]
        old = [name for name, at_ms in zip(members, said, strict=True)
               if at_ms is not None and float(at_ms) < now_ms - UNUSED_MS]
        if new:
            self._redis.call("ZADD", keys.announced, "NX", *(part for name in new for part in (now_ms, name)))
        if old:
            self._redis.call_all([("HDEL", keys.handlers, *old), ("ZREM", keys.announced, *old)])
        return Counter()

    def _tell_strangers(self, key: str, strangers: Sequence[bytes]) -> None:
        _errors.error("what does not belong there was removed", extra={
            "key": key, "members": [member[:80].decode(errors="replace") for member in strangers[:20]]})

    def _suspect(self, key: str, kind: str, task_id: str, stored: StoredTask | None) -> Suspect | None:
        """What seems to be wrong with an id found in one of the collections."""
        if stored is None:
            line = self._redis.call("HGET", self._keys.states, task_id) or b""
            what = {"life": "life", TaskStatus.RUNNING: "set"}.get(kind, "zset")
            return (what, task_id, line, int(bool(line)), [key], "", "") if kind != "task" else None
        _, line, is_stored = stored.seen
        state, queue = stored.state, stored.record.queue
        if stored.problem is not None and (kind == "task" or state.status is TaskStatus.QUEUED):
            return None  # it is set aside, and nobody knows its queue
        if kind == "task":
            what, names = self._home(stored)
        elif kind == "life":
            return None
        elif kind == TaskStatus.RUNNING:
            what = "" if state.status is TaskStatus.RUNNING and key == self._keys.running(state.owner) else "set"
            names = [key]
        else:
            fits = state.status in ((TaskStatus.PENDING, TaskStatus.RETRYING) if kind == "due" else (kind,))
            if kind == "due" and state.status is TaskStatus.RETRYING and state.at_ms > self._redis.now_ms() + AHEAD_MS:
                return "ahead", task_id, line, is_stored, [key], "", ""
            home = (self._keys.lane(queue, state.priority),
                    self._keys.lane(queue, state.priority, stored.record.task_type))
            is_elsewhere = kind == TaskStatus.QUEUED and key not in home
            what, names = "" if fits and not is_elsewhere else "zset", [key]
        return (what, task_id, line, is_stored, names, stored.fair_key, queue) if what else None

    def _home(self, stored: StoredTask) -> tuple[str, list[str]]:
        """Where a task belongs by its state: the script looks whether it is there."""
        keys, state, queue = self._keys, stored.state, stored.record.queue
        line = [keys.lane(queue, state.priority), keys.cursors(queue, state.priority)]
        if state.status is TaskStatus.QUEUED:
            return "line", line
        if state.status is TaskStatus.RUNNING:
            bound = self._bounds.get(stored.id)
            if bound is not None and state.run >= bound:
                return "spent", [keys.running(state.owner), keys.ended(TaskStatus.FAILED), keys.outcomes]
            return "held", [keys.running(state.owner), *line]
        return ("ended", [keys.ended(state.status)]) if state.status.is_final else ("due", [keys.due])

    def _repair(self, suspects: Sequence[Suspect]) -> Counter[str]:
        if not suspects:
            return Counter()
        keys, now_ms, layout = self._keys, self._redis.now_ms(), LAYOUTS["repair"]
        names, tasks = layout.keys(keys), list[dict[str, Argument]]()
        for what, task_id, state, is_stored, touched, fair_key, queue in suspects:
            tasks.append({"what": what, "id": task_id, "state": state, "is_stored": is_stored, "fair_key": fair_key,
                          "queue": queue})
            names += [*touched, *touched[-1:] * (KEYS_PER_SUSPECT - len(touched))]
        args = layout.args(base=keys.base, now_ms=now_ms, remove_ms=now_ms + self._kept_ms)
        words = self._redis.run("repair", names, [*args, *layout.rows("suspects", tasks)])
        astray = [suspect[1] for suspect, word in zip(suspects, words, strict=True) if word == b"ASTRAY"]
        mended = (suspect[0] for suspect, word in zip(suspects, words, strict=True) if word == b"REPAIRED")
        return restore(self._redis, keys, astray, self._kept_ms) + Counter(mended)

    def _trim(self, flows: str, fields: Sequence[bytes]) -> int:
        keys = [name for name in (field.decode(errors="replace") for field in fields) if name.startswith("k:")]
        return int(self._redis.run("trim_cursors", [flows], keys)) if keys else 0
