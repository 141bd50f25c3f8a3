"""What clients do to tasks and queues.

1. submit: a task that is due later is PENDING, any other QUEUED. Where its queue knows the idempotency key, the
   earlier task stands for it. A plain task goes straight to an idle supervisor, if one listens: its first run starts.
2. cancel: a task that waits is CANCELLED. For one that runs, its supervisor gets a command, and the request is noted
   for the keeper, since the run may end otherwise.
3. requeue: a task that ended without a result is QUEUED again, last of its fair key, with all its attempts.
4. set_priority: a task that waits changes its lane, and gets a new rank there.
"""

from collections.abc import Iterable

import orjson

from engine.core.task.lifecycle import Move, TaskStatus
from engine.core.task.outcome import Outcome
from engine.core.task.priority import TaskPriority
from engine.core.task.record import Record
from engine.core.task.state import StoredState
from engine.errors import BrokerError, MoveRefused
from engine.testing.model.store import ModelStore, ModelSupervisor, ModelTask

IDLE_MS_MAX = 3500  # an idle supervisor says so every three seconds; a task is not handed to one that does not
HANDED_BYTES_MAX = 65_536


class ClientCalls:
    def __init__(self, store: ModelStore, idempotency_ttl_ms: int) -> None:
        self._store, self._idempotency_ttl_ms = store, idempotency_ttl_ms

    # -- tasks ----------------------------------------------------------------------------------------------------

    def submit(self, task_id: str, record: Record, now_ms: int, idempotency_key: str | None = None) -> str:
        """Take a task in, unless this call is a repetition. Return its id, or that of the earlier task for its key.

        Raises `BrokerError` where another task has the id.
        """
        store, name = self._store, (record.queue, idempotency_key or "")
        known = store.tasks.get(task_id)
        if known is not None and known.record != record:
            raise BrokerError(f"another task has the id {task_id}")
        if idempotency_key is not None:
            earlier, until_ms = store.idempotency.get(name, ("", 0))
            if now_ms < until_ms and earlier in store.tasks:
                return earlier
        if known is not None:
            return task_id
        if idempotency_key is not None:
            store.idempotency[name] = task_id, now_ms + self._idempotency_ttl_ms
        store.counters["submitted"] += 1
        state = StoredState(TaskStatus.QUEUED, priority=record.priority, at_ms=now_ms)
        task = ModelTask(task_id, record, state, store.counters["submitted"])
        if record.options.get("due_ms", 0) > now_ms:
            task.state = task.state._replace(status=TaskStatus.PENDING)
        is_plain = idempotency_key is None and not record.options.keys() & {"due_ms", "expires_ms", "fair_key"}
        if is_plain and self._hand_over(task, now_ms):
            return task_id
        store.place(task, now_ms)
        if task.state.status is TaskStatus.QUEUED:
            store.wake(record.queue, record.task_type)
        return task_id

    def cancel(self, task_id: str, reason: str, now_ms: int) -> TaskStatus:
        """Return CANCELLED, or RUNNING if its supervisor has to stop it first. Raises `MoveRefused`, `TaskNotFound`."""
        store, task = self._store, self._store.get(task_id)
        state = task.state
        if state.status is TaskStatus.RUNNING:
            command = {"do": "cancel", "id": task_id, "run": state.run, "reason": reason}
            store.cancel_requests[task_id] = state.run, reason
            store.send(state.owner, orjson.dumps(command))
            return TaskStatus.RUNNING
        outcome = Outcome.cancelled(task.next_end, reason, ended_ms=now_ms)
        store.end_waiting(task, Move.CANCEL, outcome.encode(), now_ms, "cancel")
        return TaskStatus.CANCELLED

    def requeue(self, task_id: str, now_ms: int) -> None:
        """Raises `MoveRefused` if it has not ended, or has completed; `TaskNotFound`."""
        store, task = self._store, self._store.get(task_id)
        store.move(task, Move.REQUEUE, now_ms, task.state._replace(attempts=0, crashes=0, rank=0))
        task.rescues = 0
        store.cancel_requests.pop(task_id, None)
        store.counters["revived"] += 1
        store.wake(task.record.queue)

    def set_priority(self, task_id: str, priority: TaskPriority, now_ms: int) -> None:
        """Raises `MoveRefused` if it runs or has ended, `TaskNotFound`."""
        store, task = self._store, self._store.get(task_id)
        state = task.state
        if state.status is TaskStatus.RUNNING or state.status.is_final:
            raise MoveRefused(task_id, "change the priority of", state.status)
        if priority is state.priority:
            return
        is_queued = state.status is TaskStatus.QUEUED
        if is_queued:
            store.lane_of(task).leave(task_id, task.fair_key)
        task.state = state._replace(priority=priority, rank=0, at_ms=now_ms)  # 0: it gets its rank when it is queued
        if is_queued:
            store.line_up(task, now_ms)

    def delete(self, task_ids: Iterable[str]) -> int:
        """Forget tasks that have ended; return how many. Others are passed over."""
        ended = [task_id for task_id in task_ids
                 if (task := self._store.tasks.get(task_id)) is not None and task.state.status.is_final]
        for task_id in ended:
            self._store.remove(task_id)
        return len(ended)

    # -- queues ---------------------------------------------------------------------------------------------------

    def pause(self, queue: str) -> None:
        """Let no task of the queue start."""
        self._store.queues.add(queue)
        self._store.lanes.paused.add(queue)

    def resume(self, queue: str, now_ms: int) -> None:
        store = self._store
        store.queues.add(queue)
        store.lanes.resume(queue, now_ms)
        for lane in store.lanes.of_queue(queue):
            for task_id in lane:
                store.wake(queue, store.tasks[task_id].record.task_type)

    def purge(self, queue: str, limit: int, now_ms: int) -> list[str]:
        """Cancel up to `limit` queued tasks, those that would start first; return their ids."""
        chosen = [task_id for lane in self._store.lanes.of_queue(queue) for task_id in lane][:limit]
        for task_id in chosen:
            self.cancel(task_id, "its queue was purged", now_ms)
        return chosen

    # -- handing over ---------------------------------------------------------------------------------------------

    def _hand_over(self, task: ModelTask, now_ms: int) -> bool:
        """Start the first run of a new task with the supervisor that has the most idle workers, if it listens.

        No waiting task is overtaken, since a supervisor is idle only while all lanes that it serves are empty.
        """
        store, record = self._store, task.record
        takers = [one for one in store.supervisors.values() if self._can_take(one, task, now_ms)]
        taker = max(takers, key=lambda one: one.idle_workers, default=None)
        if record.queue in store.lanes.paused or taker is None or len(record.encode()) > HANDED_BYTES_MAX:
            return False
        if not store.observer.hand_over(taker.name, task):
            return False
        lane = store.lane_of(task)
        lane.rank_claimed = rank = lane.give_rank("")
        task.state = StoredState(TaskStatus.RUNNING, run=1, priority=record.priority, rank=rank, at_ms=now_ms,
                         owner=taker.name)
        taker.idle_workers -= 1
        store.place(task, now_ms)
        store.counters["runs"] += 1
        store.observer.claimed(task.id, 1, taker.name)
        return True

    def _can_take(self, supervisor: ModelSupervisor, task: ModelTask, now_ms: int) -> bool:
        since_ms = supervisor.idle_since_ms
        return (since_ms is not None and supervisor.idle_workers > 0 and now_ms - since_ms < IDLE_MS_MAX
                and supervisor.serves(task.record.queue) and task.record.task_type in supervisor.types)
