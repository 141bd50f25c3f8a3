"""The tasks of an inline engine, in memory; each move is made by the lifecycle table, as in Redis."""

from collections import Counter
from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from typing import Any

from engine.core.task.lifecycle import IllegalMove, Move, TaskStatus, step
from engine.core.task.record import Record
from engine.core.task.state import Life
from engine.core.task.stored_task import StoredTask
from engine.errors import MoveRefused, TaskNotFound


@dataclass(slots=True, eq=False)
class Entry:
    """One task, as the broker would have it stored."""

    id: str
    record: Record
    life: Life
    outcomes: list[dict[str, Any]] = field(default_factory=list)  # of the runs that ended, the first first
    progress: dict[str, Any] | None = None
    due_ms: int | None = None  # while PENDING or RETRYING
    expires_ms: int | None = None  # while it waits for its first run, or for another after a failure
    gone_ms: int | None = None  # after its end: when it is forgotten
    cancelled: str | None = None  # asked for while it runs
    rows: list[dict[str, Any]] = field(default_factory=list)  # of its log

    def move(self, move: Move, now_ms: int, **changes: Any) -> None:
        """Make a legal move. Raises `MoveRefused` for any other; then nothing has changed."""
        try:
            status = step(self.life.status, move)
        except IllegalMove:
            raise MoveRefused(self.id, str(move), str(self.life.status)) from None
        self.life = self.life._replace(status=status, at_ms=now_ms, **changes)

    def check_waits(self, verb: str) -> None:
        """Raises `MoveRefused` for a task that runs or has ended."""
        if not self.waits:
            raise MoveRefused(self.id, verb, str(self.life.status))

    def snapshot(self) -> StoredTask:
        """As it is now, for somebody who looks later."""
        running = self.life.status is TaskStatus.RUNNING
        outcome = self.outcomes[-1] if self.outcomes and not running else None
        return StoredTask(self.id, self.record, self.life, outcome, self.progress)

    @property
    def next_ms(self) -> int | None:
        """When something happens to it by itself, if anything does."""
        expires_ms = self.expires_ms if self.waits else None
        return min((moment for moment in (self.due_ms, expires_ms) if moment is not None), default=None)

    @property
    def waits(self) -> bool:
        return self.life.status in (TaskStatus.PENDING, TaskStatus.QUEUED, TaskStatus.RETRYING)


class Book:
    """All tasks that are kept, by id and in the order of their submission."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self.paused: set[str] = set()
        self.queues: set[str] = set()  # every one that was used
        self.counters: Counter[str] = Counter()

    def add(self, entry: Entry) -> None:
        self._entries[entry.id] = entry
        self.queues.add(entry.record.queue)

    def find(self, task_id: str, now_ms: int) -> Entry | None:
        entry = self._entries.get(task_id)
        if entry is not None and entry.gone_ms is not None and entry.gone_ms <= now_ms:
            del self._entries[task_id]
            return None
        return entry

    def remove(self, task_id: str, now_ms: int) -> bool:
        """Forget a task that has ended; say whether there was one."""
        entry = self.find(task_id, now_ms)
        if entry is None or not entry.life.status.is_final:
            return False
        del self._entries[task_id]
        return True

    def get(self, task_id: str, now_ms: int) -> Entry:
        """Raises `TaskNotFound`."""
        entry = self.find(task_id, now_ms)
        if entry is None:
            raise TaskNotFound(task_id)
        return entry

    def all(self, now_ms: int) -> Iterator[Entry]:
        for task_id in list(self._entries):
            entry = self.find(task_id, now_ms)
            if entry is not None:
                yield entry

    def next_queued(self, now_ms: int, types: Container[str]) -> Entry | None:
        """The first in line of these types: by priority, then by place. Others wait."""
        ready = [entry for entry in self.all(now_ms) if entry.life.status is TaskStatus.QUEUED
                 and entry.record.queue not in self.paused and entry.record.task_type in types]
        return min(ready, key=lambda entry: (-entry.life.priority, entry.life.place), default=None)
