"""The broker of an inline engine: what a client asks for, done by the reference model."""

import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from engine.core.task.lifecycle import TaskStatus
from engine.core.task.priority import DESCENDING, TaskPriority
from engine.core.task.query import Order, QueryPage, TaskQuery
from engine.core.task.stored_task import StoredTask
from engine.errors import GangerError
from engine.ports.client_broker import RawTask, Submission
from engine.tasks import options as check
from engine.testing.clock import FakeClock
from engine.testing.engine import InlineEngine
from engine.testing.model import ReferenceModel
from engine.testing.model.store import ModelTask


class _ReadTask(NamedTuple):
    """A task that has been read already, as `RawTask`."""

    task: StoredTask

    @property
    def id(self) -> str:
        return self.task.id

    @property
    def status(self) -> TaskStatus:
        return self.task.state.status

    def outcome(self) -> Mapping[str, Any] | None:
        return self.task.outcome

    def result(self) -> Any:
        return (self.task.outcome or {}).get("result")

    def stored(self) -> StoredTask:
        return self.task


class InlineBroker:
    """Fulfils `ClientBroker`. Waiting moves the engine's clock."""

    def __init__(self, engine: InlineEngine) -> None:
        self._engine = engine

    @property
    def clock(self) -> FakeClock:
        return self._engine.clock

    @property
    def _model(self) -> ReferenceModel:
        """The model as of now: tasks whose time to be kept is over are gone."""
        self._engine.model.keeper.remove(self.clock.now_ms())
        return self._engine.model

    # -- tasks ----------------------------------------------------------------------------------------------------

    def submit(self, tasks: Sequence[Submission]) -> list[str]:
        submit, now_ms = self._model.client.submit, self.clock.now_ms()
        ids = [submit(task.id, task.record, now_ms, task.idempotency_key) for task in tasks]
        self._engine.run_if_eager()
        return ids

    def read(self, ids: Sequence[str]) -> list[StoredTask | None]:
        tasks = self._model.store.tasks
        return [_stored(task) if (task := tasks.get(task_id)) is not None else None for task_id in ids]

    def read_raw(self, ids: Sequence[str], *, records: bool = True) -> Iterator[RawTask | None]:
        return (None if stored is None else _ReadTask(stored) for stored in self.read(ids))

    def ends(self, ids: Iterable[str], until_s: float, /) -> Iterator[list[str]]:
        """Let time pass, from one thing that happens to the next. Raises `GangerError` for a wait without an end."""
        until_ms = until_s if until_s == math.inf else math.ceil(until_s * 1000)
        pending = list(ids)
        while True:
            self._engine.run_due()
            over = {task_id for task_id, task in zip(pending, self.read(pending), strict=True)
                    if task is None or task.state.status.is_final}
            if over:
                yield [task_id for task_id in pending if task_id in over]
                pending = [task_id for task_id in pending if task_id not in over]
                if pending:
                    continue  # the caller may have done something about the others
            if not pending or self.clock.now_ms() >= until_ms:
                return
            next_ms = min(self._engine.next_ms() or math.inf, until_ms)
            if next_ms == math.inf:
                raise GangerError("these tasks will never end: they wait for nothing that time brings "
                                  "(is their queue paused, or does one of them wait for itself?)")
            self._engine.advance_to(int(next_ms))

    def await_end(self, task_id: str, until_s: float, /) -> None:
        """Let time pass as `ends` does. The outcome has to be read."""
        deque(self.ends([task_id], until_s), maxlen=0)

    def search(self, query: TaskQuery, limit: int, cursor: str | None = None) -> QueryPage:
        """The newest first, or the oldest if the query says so; the cursor is how many have been given."""
        found = [stored for stored in map(_stored, self._model.store.tasks.values()) if query.matches(stored)]
        if query.order is not Order.OLDEST:
            found.reverse()
        if cursor is not None and not cursor.isdigit():
            raise check.refuse("cursor", cursor, "what the page before gave")
        start = int(cursor or 0)
        behind = start + limit
        return QueryPage(found[start:behind], str(behind) if behind < len(found) else None)

    def unknown_types(self) -> dict[str, int]:
        return {}

    def reason(self, stored: StoredTask) -> str | None:
        if stored.state.status is TaskStatus.QUEUED and stored.record.queue in self._model.store.lanes.paused:
            return f"its queue {stored.record.queue!r} is paused"
        return None

    def outcomes(self, task_id: str) -> list[dict[str, Any]]:
        outcomes = self._model.store.get(task_id).outcomes
        return [orjson.loads(outcomes[run]) for run in sorted(outcomes)]

    def log(self, task_id: str, start: int = 0) -> list[dict[str, Any]]:
        task = self._model.store.tasks.get(task_id)
        return task.log[start:] if task is not None else []

    def cancel(self, task_id: str, reason: str) -> TaskStatus:
        return self._model.client.cancel(task_id, reason, self.clock.now_ms())

    def requeue(self, task_id: str) -> None:
        self._model.client.requeue(task_id, self.clock.now_ms())
        self._engine.run_if_eager()

    def set_priority(self, task_id: str, priority: TaskPriority) -> None:
        self._model.client.set_priority(task_id, priority, self.clock.now_ms())

    def delete(self, ids: Sequence[str]) -> int:
        return self._model.client.delete(ids)

    # -- queues ---------------------------------------------------------------------------------------------------

    def queue_stats(self) -> list[dict[str, Any]]:
        return [self._stats(queue) for queue in sorted(self._model.store.queues)]

    def _stats(self, queue: str) -> dict[str, Any]:
        store = self._model.store
        lanes = {lane.priority: lane for lane in store.lanes.of_queue(queue)}
        oldest_ms = min((store.tasks[task_id].record.created_ms for lane in lanes.values() for task_id in lane),
                        default=None)
        return {"queue": queue, "paused": queue in store.lanes.paused,
                "queued": {priority.name: len(lanes[priority].ranks) if priority in lanes else 0
                           for priority in DESCENDING},
                "oldest_s": None if oldest_ms is None else (self.clock.now_ms() - oldest_ms) / 1000}

    def pause(self, queue: str) -> None:
        self._model.client.pause(queue)

    def resume(self, queue: str) -> None:
        self._model.client.resume(queue, self.clock.now_ms())
        self._engine.run_if_eager()

    def purge(self, queue: str, limit: int) -> int:
        return len(self._model.client.purge(queue, limit, self.clock.now_ms()))

    # -- the engine -----------------------------------------------------------------------------------------------

    def status_counts(self) -> dict[str, int]:
        statuses = [task.state.status for task in self._model.store.tasks.values()]
        return {status: statuses.count(status) for status in TaskStatus}

    def counters(self) -> dict[str, int]:
        return dict(+self._model.store.counters)

    def handlers(self) -> dict[str, dict[str, Any]]:
        return {name: spec.announcement() for name, spec in self._engine.handlers.items()}

    def supervisors(self) -> list[dict[str, Any]]:
        return []

    def processes(self) -> list[dict[str, Any]]:
        return []

    def history(self, host: str, root_pid: int) -> list[dict[str, Any]]:
        return []

    def send_command(self, supervisor: str, command: dict[str, Any]) -> bool:
        return False  # there is no supervisor

    def control(self, command: Mapping[str, Any]) -> int:
        return 0

    def engine_log(self, before_id: str = "+", since_ms: int = 0) -> Iterator[dict[str, Any]]:
        return iter(())

    def close(self) -> None:
        """There is nothing to close."""


def _stored(task: ModelTask) -> StoredTask:
    outcome = task.outcomes.get(task.state.run)
    return StoredTask(task.id, task.record, task.state, None if outcome is None else orjson.loads(outcome),
                      task.progress)
