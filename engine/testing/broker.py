"""The broker of an inline engine: the client's verbs on a book in memory."""

import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from engine.core.task.lifecycle import Move, TaskStatus
from engine.core.task.outcome import Outcome
from engine.core.task.priority import DESCENDING, TaskPriority
from engine.core.task.query import TaskQuery
from engine.core.task.state import Life
from engine.core.task.stored_task import StoredTask
from engine.errors import GangerError
from engine.ports.client_broker import RawTask, Submission
from engine.tasks import options as check
from engine.testing.book import Entry
from engine.testing.clock import FakeClock
from engine.testing.engine import InlineEngine


class _Known(NamedTuple):
    """A task that has been read already, as `RawTask`."""

    task: StoredTask

    @property
    def id(self) -> str:
        return self.task.id

    @property
    def status(self) -> TaskStatus:
        return self.task.life.status

    def outcome(self) -> Mapping[str, Any] | None:
        return self.task.outcome

    def result(self) -> Any:
        return (self.task.outcome or {}).get("result")

    def stored(self) -> StoredTask:
        return self.task


class InlineBroker:
    """Fulfils `ClientBroker`. Waiting moves the engine's clock."""

    def __init__(self, engine: InlineEngine) -> None:
        self._engine, self._book = engine, engine.book
        self._remembered: dict[tuple[str, str], tuple[str, int]] = {}  # queue, idempotency key -> id, until ms
        self._places = 0

    @property
    def clock(self) -> FakeClock:
        return self._engine.clock

    # -- tasks ----------------------------------------------------------------------------------------------------

    def submit(self, tasks: Sequence[Submission]) -> list[str]:
        ids = [self._add(task) for task in tasks]
        self._engine.something_came()
        return ids

    def _add(self, task: Submission) -> str:
        now_ms = self.clock.now_ms()
        if task.idempotency_key is not None:
            key = task.record.queue, task.idempotency_key
            earlier, until_ms = self._remembered.get(key, ("", 0))
            if now_ms < until_ms:
                return earlier
            self._remembered[key] = task.id, now_ms + int(self._engine.settings.idempotency_ttl_s * 1000)
        due_ms = task.record.options.get("due_ms", now_ms)
        self._places += 1
        self._book.counters["submitted"] += 1
        status = TaskStatus.QUEUED if due_ms <= now_ms else TaskStatus.PENDING
        life = Life(status, priority=task.record.priority, place=self._places, at_ms=now_ms)
        self._book.add(Entry(task.id, task.record, life, due_ms=due_ms if due_ms > now_ms else None,
                             expires_ms=task.record.options.get("expires_ms")))
        return task.id

    def read(self, ids: Sequence[str]) -> list[StoredTask | None]:
        found = (self._book.find(task_id, self.clock.now_ms()) for task_id in ids)
        return [entry.snapshot() if entry is not None else None for entry in found]

    def read_raw(self, ids: Sequence[str], *, records: bool = True) -> Iterator[RawTask | None]:
        return (None if stored is None else _Known(stored) for stored in self.read(ids))

    def ends(self, ids: Iterable[str], until_s: float, /) -> Iterator[list[str]]:
        """Let time pass, from one thing that happens to the next. Raises `GangerError` for a wait without an end."""
        until_ms = until_s if until_s == math.inf else math.ceil(until_s * 1000)
        pending = list(ids)
        while True:
            self._engine.run_due()
            over = {task_id for task_id, task in zip(pending, self.read(pending), strict=True)
                    if task is None or task.life.status.is_final}
            if over:
                yield [task_id for task_id in pending if task_id in over]
                pending = [task_id for task_id in pending if task_id not in over]
                if pending:
                    continue  # whoever got those may have done something about the others
            if not pending or self.clock.now_ms() >= until_ms:
                return
            next_ms = min(self._engine.next_ms() or math.inf, until_ms)
            if next_ms == math.inf:
                raise GangerError("these tasks will never end: they wait for nothing that time brings "
                                  "(is their queue paused, or does one of them wait for itself?)")
            self._engine.advance_to(int(next_ms))

    def hear(self, task_id: str, until_s: float, /) -> None:
        """Let time pass as `ends` does: nothing comes with the news here."""
        deque(self.ends([task_id], until_s), maxlen=0)

    def find(self, status: TaskStatus | None = None, task_type: str | None = None, queue: str | None = None,
             priority: TaskPriority | None = None, name: str | None = None, tag: str | None = None,
             quarantined: bool | None = None, limit: int = 100,
             cursor: str | None = None) -> tuple[list[StoredTask], str | None]:
        """The newest first; the cursor is how many have been given."""
        query = TaskQuery(() if status is None else (status,), task_type, queue, None, priority, name,
                          frozenset() if tag is None else frozenset({tag}), quarantined)
        found = [task for task in (entry.snapshot() for entry in self._entries()) if query.matches(task)]
        found.reverse()
        if cursor is not None and not cursor.isdigit():
            raise check.refuse("cursor", cursor, "what the page before gave")
        start = int(cursor or 0)
        behind = start + limit
        return found[start:behind], str(behind) if behind < len(found) else None

    def unknown_types(self) -> dict[str, int]:
        return {}

    def reason(self, stored: StoredTask) -> str | None:
        if stored.life.status is TaskStatus.QUEUED and stored.record.queue in self._book.paused:
            return f"its queue {stored.record.queue!r} is paused"
        return None

    def outcomes(self, task_id: str) -> list[dict[str, Any]]:
        return self._book.get(task_id, self.clock.now_ms()).outcomes

    def log(self, task_id: str, start: int = 0) -> list[dict[str, Any]]:
        entry = self._book.find(task_id, self.clock.now_ms())
        return entry.rows[start:] if entry else []

    def cancel(self, task_id: str, reason: str) -> TaskStatus:
        entry, now_ms = self._book.get(task_id, self.clock.now_ms()), self.clock.now_ms()
        if entry.life.status is TaskStatus.RUNNING:  # by the handler itself, or by what it calls
            entry.cancelled = entry.cancelled or reason
        else:
            self._engine.end(entry, Move.CANCEL, Outcome.cancelled(entry.life.run, reason, ended_ms=now_ms))
        return entry.life.status

    def revive(self, task_id: str) -> None:
        entry = self._book.get(task_id, self.clock.now_ms())
        entry.move(Move.REVIVE, self.clock.now_ms(), attempts=0, crashes=0)
        entry.gone_ms = entry.cancelled = entry.expires_ms = None
        self._engine.something_came()

    def set_priority(self, task_id: str, priority: TaskPriority) -> None:
        entry = self._book.get(task_id, self.clock.now_ms())
        entry.check_waits("change the priority of")
        entry.life = entry.life._replace(priority=priority)

    def delete(self, ids: Sequence[str]) -> int:
        return sum(self._book.remove(task_id, self.clock.now_ms()) for task_id in ids)

    # -- queues ---------------------------------------------------------------------------------------------------

    def queue_stats(self) -> list[dict[str, Any]]:
        return [self._stats(queue, [entry for entry in self._queued() if entry.record.queue == queue])
                for queue in sorted(self._book.queues)]

    def _stats(self, queue: str, waiting: Sequence[Entry]) -> dict[str, Any]:
        oldest_ms = min((entry.record.created_ms for entry in waiting), default=None)
        return {"queue": queue, "paused": queue in self._book.paused,
                "queued": {priority.name: sum(entry.life.priority is priority for entry in waiting)
                           for priority in DESCENDING},
                "oldest_s": None if oldest_ms is None else (self.clock.now_ms() - oldest_ms) / 1000}

    def pause(self, queue: str) -> None:
        self._book.paused.add(queue)
        self._book.queues.add(queue)

    def resume(self, queue: str) -> None:
        self._book.paused.discard(queue)
        self._engine.something_came()

    def purge(self, queue: str, limit: int) -> int:
        waiting = [entry for entry in self._queued() if entry.record.queue == queue][:limit]
        for entry in waiting:
            self.cancel(entry.id, "its queue was purged")
        return len(waiting)

    # -- the engine -----------------------------------------------------------------------------------------------

    def status_counts(self) -> dict[str, int]:
        statuses = [entry.life.status for entry in self._entries()]
        return {status: statuses.count(status) for status in TaskStatus}

    def counters(self) -> dict[str, int]:
        return dict(self._book.counters)

    def handlers(self) -> dict[str, dict[str, Any]]:
        return {name: spec.announcement() for name, spec in self._engine.handlers.items()}

    def supervisors(self) -> list[dict[str, Any]]:
        return []

    def processes(self) -> list[dict[str, Any]]:
        return []

    def history(self, host: str, root_pid: int) -> list[dict[str, Any]]:
        return []

    def order(self, supervisor: str, letter: dict[str, Any]) -> bool:
        return False  # there is no supervisor

    def control(self, command: Mapping[str, Any]) -> int:
        return 0

    def engine_log(self) -> Iterator[dict[str, Any]]:
        return iter(())

    def close(self) -> None:
        """There is nothing to close."""

    def _entries(self) -> list[Entry]:
        return list(self._book.all(self.clock.now_ms()))

    def _queued(self) -> list[Entry]:
        return [entry for entry in self._entries() if entry.life.status is TaskStatus.QUEUED]
