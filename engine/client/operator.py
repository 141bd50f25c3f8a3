"""A client with what operating an engine takes beyond submitting and waiting: for the API, which serves many at once.

It does for several callers in one round trip what `Client` does for one.
"""

import secrets
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Literal

import orjson

from engine.adapters.redis.records import engine_log
from engine.adapters.redis.records.api_keys import KEYED, ApiKeyStore, ApiKeyTable
from engine.adapters.redis.tasks import amending
from engine.adapters.redis.tasks.broker import Broker
from engine.client import idempotency
from engine.client.client import Client
from engine.client.provider import RedisBrokerProvider
from engine.client.waiting import known_id
from engine.config import Settings
from engine.core.task.lifecycle import MOVES, Move, TaskStatus
from engine.core.task.priority import TaskPriority
from engine.core.task.query import QueryPage, TaskQuery
from engine.core.task.state import Life
from engine.core.task.stored_task import StoredTask
from engine.core.task.task_id import is_task_id
from engine.errors import EngineError, IdempotencyConflict, MoveRefused, TaskNotFound
from engine.ports.client_broker import Submission
from engine.tasks import options as check
from engine.tasks.handler import NO_PAYLOAD

Operation = Literal["cancel", "retry", "delete", "priority"]
_POLL_S = 0.05
_AMENDED: dict[str, Callable[[Any], Any]] = {
    "name": lambda value: check.text(value, "name"),
    "tags": check.tags,
    "timeout": lambda value: check.seconds(value, "timeout"),
    "soft_timeout": lambda value: check.seconds(value, "soft_timeout"),
    "max_retries": lambda value: check.count(value, "max_retries"),
    "max_memory": lambda value: check.memory(value, "max_memory"),
    "max_cpu_seconds": lambda value: check.seconds(value, "max_cpu_seconds"),
    "max_processes": lambda value: check.count(value, "max_processes"),
    "nice": check.nice,
    "result_ttl": lambda value: check.seconds(value, "result_ttl"),
}


class Operator(Client):
    """Any number of threads may share one, as with `Client`."""

    def __init__(self, settings: Settings) -> None:
        self._redis = RedisBrokerProvider(settings)
        super().__init__(settings=settings, provider=self._redis)

    @property
    def broker(self) -> Broker:
        """The broker, connected. Raises `BrokerError` or, where the embedded Redis does not start, `EngineError`."""
        return self._redis.broker()

    # -- submitting -----------------------------------------------------------------------------------------------

    def prepare(self, task: Mapping[str, Any]) -> Submission:
        """Check one task, given as to `submit_many`; nothing is written. Raises a subclass of `InvalidInput`."""
        options = {name: value for name, value in task.items() if name not in ("task_type", "payload")}
        if options.get("durability") is not None:
            self.broker.durability.check()  # here, so that others of the same batch are not refused with it
        payload, now_ms = task.get("payload", NO_PAYLOAD), self.broker.clock.now_ms()
        return self.tasks._submissions.one(task.get("task_type"), payload, options, now_ms)

    def commit(self, submissions: Sequence[Submission]) -> list[StoredTask | IdempotencyConflict]:
        """Write what was prepared; return the tasks in order, an earlier one where its queue knows its idempotency key.

        Where the earlier one is another task than the one prepared, an `IdempotencyConflict` stands for it.
        Only Redis knows when a delayed task was written, and so its version.
        """
        ids = self.broker.submit(submissions)
        earlier = [task_id for task_id, made in zip(ids, submissions, strict=True)
                   if task_id != made.id or "due_ms" in made.record.options]
        known = dict(zip(earlier, self.broker.read(earlier), strict=True)) if earlier else {}
        return [idempotency.fault(made, known.get(task_id)) or known.get(task_id) or fresh(made._replace(id=task_id))
                for task_id, made in zip(ids, submissions, strict=True)]

    def key_faults(self, submissions: Sequence[Submission]) -> list[IdempotencyConflict | None]:
        """For each whether its idempotency key stands for another task already; nothing is written."""
        return idempotency.faults(self.broker, submissions)

    # -- keys of the API ------------------------------------------------------------------------------------------

    def api_keys(self) -> ApiKeyTable:
        """Who may call the API, by the ids of their keys; without the secrets, which nobody has."""
        table = self.vault.table()
        if table.keys and table.mark != KEYED:
            self.vault.mark()
        return table

    @property
    def vault(self) -> ApiKeyStore:
        return ApiKeyStore(self.broker.redis, self.broker.keys)

    # -- looking --------------------------------------------------------------------------------------------------

    def look(self, task_ids: Sequence[str]) -> list[StoredTask | None]:
        """The tasks as they are now, None where there is none or the id cannot be one."""
        known = [task_id for task_id in task_ids if is_task_id(task_id)]
        found = dict(zip(known, self.broker.read(known), strict=True)) if known else {}
        return [found.get(task_id) for task_id in task_ids]

    def stored(self, task_id: str) -> StoredTask:
        """Raises `TaskNotFound`."""
        found = self.broker.read([known_id(task_id)])[0]
        if found is None:
            raise TaskNotFound(task_id)
        return found

    def search(self, query: TaskQuery, limit: int, cursor: str | None = None) -> QueryPage:
        """One page of the tasks that match. Raises `InvalidOption` for a cursor that no page gave."""
        return self.broker.search(query, limit, cursor)

    # -- the engine -----------------------------------------------------------------------------------------------

    def command(self, order: Mapping[str, Any]) -> int:
        """Have every engine do something to its pools, see `engine/services/tree/control.py`; how many heard it."""
        broker = self.broker
        text = orjson.dumps({**order, "order": secrets.token_hex(6)})  # one that is sent twice is known by it
        heard: int = broker.redis.call("PUBLISH", broker.keys.keeper_bell, b"control " + text)
        return heard

    def stacks(self, supervisor: str, slot: int, patience_s: float) -> str:
        """Where every thread of a worker is. Raises `EngineError` where it does not say so in time."""
        broker, worker = self.broker, f"{supervisor}/{slot}"
        before = next((row["id"] for row in engine_log.newest_first(broker.redis, broker.keys)), None)
        until_s = time.monotonic() + patience_s
        if not broker.order(supervisor, {"do": "stack", "slot": slot}):
            raise EngineError(f"there is no supervisor {supervisor}")
        while time.monotonic() < until_s:
            for row in engine_log.newest_first(broker.redis, broker.keys):
                if row["id"] == before:  # exact, as no clock is: an answer may be there within a millisecond
                    break
                if row.get("worker") == worker and "stacks" in row:
                    return str(row["stacks"])
            time.sleep(_POLL_S)
        raise EngineError(f"the worker {worker} has not told its stacks within {patience_s:g} s")

    # -- acting ---------------------------------------------------------------------------------------------------

    def amend(self, task_id: str, changes: Mapping[str, Any], versions: Collection[str] | None = None) -> StoredTask:
        """Change name, tags, limits or priority of a task that has not started; None takes what was said away.

        Raises `ChangedMeanwhile` if it is in none of these versions, `MoveRefused`, `TaskNotFound`, `InvalidOption`.
        """
        named = {name: None if value is None else _AMENDED[name](value) for name, value in changes.items()
                 if name != "priority"}
        priority = None if changes.get("priority") is None else check.priority(changes["priority"])
        amending.amend(self.broker.redis, self.broker.keys, known_id(task_id), named, priority, versions,
                       kept_ms=self.broker.kept_ms)
        return self.stored(task_id)

    def able(self, query: TaskQuery, operation: Operation, limit: int) -> tuple[list[StoredTask], bool]:
        """Up to `limit` tasks that agree and to which the operation can be done now; whether that is all of them."""
        statuses = tuple(status for status in query.statuses or TaskStatus if _allows(status, operation))
        if not statuses:
            return [], True
        query, cursor = replace(query, statuses=statuses), None
        found: dict[str, StoredTask] = {}
        while len(found) < limit:
            page = self.search(query, limit - len(found), cursor)
            found |= {stored.id: stored for stored in page.tasks}
            cursor = page.cursor
            if cursor is None:
                break
        return list(found.values()), len(found) < limit

    def operate(self, found: Sequence[StoredTask], operation: Operation, *, reason: str = "cancelled in a batch",
                priority: TaskPriority = TaskPriority.NORMAL) -> int:
        """Do it to each of them; return to how many. Those that have moved on meanwhile are passed over."""
        ids = [stored.id for stored in found]
        if operation == "delete":
            return self.delete(ids)
        if operation == "retry":
            return self.broker.revive_many(ids)
        done = 0
        for task_id in ids:
            with suppress(MoveRefused, TaskNotFound):
                if operation == "cancel":
                    self.cancel(task_id, reason)
                else:
                    self.set_priority(task_id, priority)
                done += 1
        return done


def _allows(status: TaskStatus, operation: Operation) -> bool:
    match operation:
        case "cancel":
            return Move.CANCEL in MOVES[status]
        case "retry":
            return Move.REVIVE in MOVES[status]
        case "delete":
            return status.is_final
        case "priority":
            return not status.is_final and status is not TaskStatus.RUNNING


def fresh(made: Submission) -> StoredTask:
    """A task as it is the moment after it was submitted."""
    record = made.record
    status = TaskStatus.PENDING if "due_ms" in record.options else TaskStatus.QUEUED
    return StoredTask(made.id, record, Life(status, priority=record.priority, at_ms=record.created_ms))
