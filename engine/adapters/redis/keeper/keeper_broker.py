"""Redis as the keeper sees it.

Duties: lead where several keepers run; queue what is due; end what expired;
forget what was kept long enough; take over from supervisors that fell silent;
repair what is in no place. Each call does a bounded amount and says what is left;
an id that turned out to be a stray counts as done.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from engine.adapters.redis.keeper.audit import Audit, Cursor
from engine.adapters.redis.keeper.misplaced_keys import rename_misplaced
from engine.adapters.redis.tasks.broker import RedisClientBroker
from engine.adapters.redis.tasks.restore_states import look_restored
from engine.adapters.redis.tasks.task_actions import TaskActions
from engine.adapters.redis.tasks.task_reader import BATCH_TASKS, Lanes, deliveries, known, moment, sorted_out
from engine.adapters.redis.wire.layouts import LAYOUTS, Argument
from engine.core.measure import usage_history
from engine.core.store import schema
from engine.core.task import stored_json
from engine.core.task.lifecycle import Move, TaskStatus
from engine.core.task.lost_run import RESCUES_MAX, LostRunDecision, of_lost_run, of_unreadable
from engine.core.task.stored_task import StoredTask
from engine.ports.keeper_broker import AuditResult, PollResult, RescueResult

PROCESSES_S = 10.0  # what was told of processes vanishes after so long, unless it comes less often


class RedisKeeperBroker:
    """The keeper's verbs, on the connections of a broker.

    `rescues_max`: how often a task is run again because its supervisor was lost, before it is set aside.
    """

    def __init__(self, broker: RedisClientBroker, rescues_max: int = RESCUES_MAX) -> None:
        self._rescues_max = rescues_max
        self._redis, self._keys, self._kept_ms = broker.redis, broker.keys, broker.kept_ms
        self._supervisors = broker.supervisors
        self._actions = TaskActions(self._redis, self._keys, self._kept_ms)
        self._audit = Audit(self._redis, self._keys, self._actions, self._kept_ms)

    def now_ms(self) -> int:
        return self._redis.now_ms()

    def poll(self, keeper: str, until_ms: int) -> PollResult:
        """Ask to be the keeper that acts until then, if no other is; with a moment that is over, stand down."""
        keys, layout = self._keys, LAYOUTS["poll"]
        word, leases, *told, cancels, stored = self._redis.run("poll", layout.keys(keys), layout.args(
            base=keys.base, now_ms=self._redis.now_ms(), keeper=keeper, until_ms=until_ms, version=schema.VERSION,
            reads_from=schema.READS_FROM))
        due_ms, expires_ms, removal_ms = (float(moment or "inf") for moment in told)
        return PollResult(word == b"LEADS", self._named(leases), due_ms, expires_ms, removal_ms, cancels,
                      schema.refusal(stored))

    def supervisors(self) -> list[dict[str, Any]]:
        """As `RedisClientBroker.supervisors`."""
        return self._supervisors()

    def expire_lease(self, supervisor: str, seen_ms: int | None = None) -> bool:
        """End a lease: its supervisor is known to be gone, or has not renewed it for so long.

        With `seen_ms`, only if that is its end still; False if it was renewed or given up meanwhile.
        """
        layout = LAYOUTS["expire_lease"]
        word: bytes = self._redis.run("expire_lease", layout.keys(self._keys), layout.args(
            supervisor=supervisor, seen_ms="" if seen_ms is None else seen_ms))
        return word == b"OK"

    def reapply_cancel_requests(self, cursor: bytes | None = None) -> tuple[int, bytes | None]:
        """As `TaskActions.reapply_cancel_requests`."""
        return self._actions.reapply_cancel_requests(cursor)

    def promote(self, limit: int) -> tuple[int, int | None]:
        """Queue up to `limit` tasks that are due, or end those that expired; return how many, and when the next is due.

        A retried task expires as it did before its first run, whose claim took it out of those that do.
        """
        promoted, now_ms = 0, self._redis.now_ms()
        for ids in self._ripe(self._keys.due, limit):
            found = self._readable(ids)
            promoted += self._forget_strays(self._keys.due, ids, found)
            expiring = [stored for stored in found if "expires_ms" in stored.record.options]
            late = [stored for stored in expiring if stored.record.options["expires_ms"] <= now_ms]
            late_ids = {stored.id for stored in late}
            if late:
                promoted += self._actions.cancel_queued(late, Move.EXPIRE).count(b"OK")
                found = [stored for stored in found if stored.id not in late_ids]
            if again := [part for stored in expiring
                         if stored.state.status is TaskStatus.RETRYING and stored.id not in late_ids
                         for part in (stored.record.options["expires_ms"], stored.id)]:
                self._redis.call("ZADD", self._keys.expiring, *again)
            promoted += self._promote(found).count(b"OK")
        return promoted, self._first(self._keys.due)

    def expire(self, limit: int) -> tuple[int, int | None]:
        """End up to `limit` tasks that nobody started in time; return how many, and when the next expires."""
        expired = 0
        for ids in self._ripe(self._keys.expiring, limit):
            found = self._readable(ids)
            expired += self._forget_strays(self._keys.expiring, ids, [
                stored for stored in found if not stored.state.status.is_final and
                stored.state.status is not TaskStatus.RUNNING])
            expired += self._actions.cancel_queued(found, Move.EXPIRE).count(b"OK") if found else 0
        return expired, self._first(self._keys.expiring)

    def sweep(self, limit: int) -> tuple[int, int | None]:
        """Forget up to `limit` tasks that were kept long enough; return how many, and when the next has been."""
        keys, layout = self._keys, LAYOUTS["sweep"]
        swept, next_ms = self._redis.run("sweep", layout.keys(keys), layout.args(
            base=keys.base, now_ms=self._redis.now_ms(), limit=limit))
        return swept, int(next_ms) if next_ms else None

    def leases(self) -> dict[str, int]:
        """Until when each supervisor's lease holds, ms."""
        return self._named(self._redis.call("ZRANGE", self._keys.supervisors, 0, -1, "WITHSCORES"))

    def _named(self, told: Sequence[bytes]) -> dict[str, int]:
        """Leases by supervisor. What cannot be one's name is taken out."""
        nobodies = [name for name in told[::2] if not name.isascii()]  # a name of a supervisor is
        if nobodies:
            self._redis.call("ZREM", self._keys.supervisors, *nobodies)
        return {name.decode(): moment(end_ms) for name, end_ms in zip(told[::2], told[1::2], strict=True)
                if name.isascii()}

    def rescue(self, supervisor: str, limit: int) -> RescueResult:
        """Take up to `limit` runs of a silent supervisor away from it; forget it when it has none left."""
        keys, now_ms = self._keys, self._redis.now_ms()
        held, strangers = sorted_out(self._redis.call("SRANDMEMBER", keys.running(supervisor), min(limit, BATCH_TASKS)))
        found = [stored for stored in known(look_restored(self._redis, keys, held, self._kept_ms)) if
                 stored.state.status is TaskStatus.RUNNING and stored.state.owner == supervisor]
        strays = set(held) - {stored.id for stored in found}
        if strays or strangers:
            self._redis.call("SREM", keys.running(supervisor), *strays, *strangers)
        decisions = self._lost_run_decisions(supervisor, found, now_ms)
        word, *words = self._rescue(supervisor, list(zip(found, decisions, strict=True)), now_ms)
        if word == b"ALIVE":
            return RescueResult()
        moves = [decision.move for decision, done in zip(decisions, words, strict=True) if done == b"OK"]
        return RescueResult(moves.count(Move.RELEASE), moves.count(Move.FAIL), moves.count(Move.CANCEL),
                            is_over=self._redis.call("SCARD", keys.running(supervisor)) == 0)

    def audit(self, cursor: Cursor | None = None) -> AuditResult:
        """Look at some of everything for what is in no place or in a wrong one, and put it right."""
        return self._audit.some(cursor)

    def rename_misplaced(self) -> int:
        """Rename the keys that something else was written to; return how many."""
        return rename_misplaced(self._redis, self._keys)

    def publish_processes(self, host: str, root_pid: int, samples: Mapping[int, Mapping[str, Any]],
                          entry: bytes = b"", for_s: float = PROCESSES_S) -> None:
        """Publish a sample of each process of an engine, and an entry of their history if there is one.

        The samples vanish if nobody does so again within `for_s`, the history with its last hour.
        """
        told = (part for pid, sample in samples.items() for part in (pid, orjson.dumps(sample)))
        keys, layout = self._keys, LAYOUTS["publish"]
        names = layout.keys(keys, processes=keys.processes(host, root_pid), history=keys.history(host, root_pid))
        args = layout.args(ttl_ms=int(for_s * 1000), entry=entry, entries_max=usage_history.ENTRIES_MAX,
                           history_ttl_ms=int(usage_history.HOUR_S * 1000))
        self._redis.run("publish", names, [*args, *told])

    # -- the scripts ----------------------------------------------------------------------------------------------

    def _promote(self, found: Sequence[StoredTask]) -> list[bytes]:
        if not found:
            return []
        keys, lanes, layout = self._keys, Lanes(self._keys), LAYOUTS["promote"]
        tasks: list[dict[str, Argument]] = []
        for stored in found:
            task_id, state, _ = stored.seen
            tasks.append({"id": task_id, "state": state, "fair_key": stored.fair_key,
                          "lane": lanes.number(stored.record.queue, stored.state.priority)})
        queues = lanes.queues()
        args = layout.args(base=keys.base, now_ms=self._redis.now_ms(), lane_count=len(queues))
        words: list[bytes] = self._redis.run("promote", [*layout.keys(keys), *lanes.names()], [
            *args, *queues, *layout.rows("tasks", tasks)])
        return words

    def _lost_run_decisions(self, supervisor: str, found: Sequence[StoredTask], now_ms: int) -> list[LostRunDecision]:
        """What is to become of each run. A command to cancel it that the supervisor has not taken counts."""
        if not found:
            return []
        commands = map(stored_json.cancel_command, self._redis.call("LRANGE", self._keys.commands(supervisor), 0, -1))
        reasons = {(command.task_id, command.run): command.reason for command in commands if command is not None}
        rescues = self._redis.call("HMGET", self._keys.rescues, *(stored.id for stored in found))
        bounds = deliveries(self._redis, self._keys, found)
        return [of_unreadable(stored.state.run, stored.problem) if stored.problem is not None else of_lost_run(
                    stored.state.run, supervisor, rescues=int(before) if before and before.isdigit() else 0,
                    max_deliveries=bounds[stored.id], rescues_max=self._rescues_max,
                    cancel_reason=reasons.get((stored.id, stored.state.run)), now_ms=now_ms)
                for stored, before in zip(found, rescues, strict=True)]

    def _rescue(self, supervisor: str, runs: Sequence[tuple[StoredTask, LostRunDecision]], now_ms: int) -> list[bytes]:
        keys, lanes, layout = self._keys, Lanes(self._keys), LAYOUTS["rescue"]
        tasks: list[dict[str, Argument]] = []
        for stored, decision in runs:
            task_id, state, _ = stored.seen
            tasks.append({"id": task_id, "state": state, "move": decision.move, "outcome": decision.outcome.encode(),
                          "lane": lanes.number(stored.record.queue, stored.state.priority)})
        queues = lanes.queues()
        args = layout.args(base=keys.base, now_ms=now_ms, supervisor=supervisor, remove_ms=now_ms + self._kept_ms,
                           lane_count=len(queues))
        words: list[bytes] = self._redis.run("rescue", [*layout.keys(keys, supervisor), *lanes.names(cursors=False)], [
            *args, *queues, *layout.rows("tasks", tasks)])
        return words

    # -- what is ripe ---------------------------------------------------------------------------------------------

    def _ripe(self, zset: str, limit: int) -> list[list[str]]:
        """The ids whose moment has come, the earliest first, up to `limit`, in batches. What is no id is taken out."""
        names, strangers = sorted_out(self._redis.call(
            "ZRANGEBYSCORE", zset, "-inf", self._redis.now_ms(), "LIMIT", 0, max(0, limit)))
        if strangers:
            self._redis.call("ZREM", zset, *strangers)
        return [names[start : start + BATCH_TASKS] for start in range(0, len(names), BATCH_TASKS)]

    def _first(self, zset: str) -> int | None:
        told = self._redis.call("ZRANGE", zset, 0, 0, "WITHSCORES")
        return moment(told[1]) if told else None

    def _readable(self, ids: Sequence[str]) -> list[StoredTask]:
        """The tasks; those that cannot be read are set aside."""
        found = known(look_restored(self._redis, self._keys, ids, self._kept_ms))
        if any(stored.problem is not None for stored in found):
            self._audit.set_aside([stored for stored in found if stored.problem is not None])
        return [stored for stored in found if stored.problem is None]

    def _forget_strays(self, zset: str, ids: Sequence[str], found: Sequence[StoredTask]) -> int:
        """Take ids from a set of moments that have no business there, or they would come up for ever."""
        strays = set(ids) - {stored.id for stored in found}
        if strays:
            self._redis.call("ZREM", zset, *strays)
        return len(strays)
