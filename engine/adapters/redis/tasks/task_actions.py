"""What people and programs do to tasks and queues: cancel, requeue, change, pause, purge, delete.

Law: read first, since a script must be told all its keys; then let the script
compare what was read with what is there, and read again if the task has moved
on meanwhile. So no decision is ever made on a state that is over.

A call whose answer was lost is sent again, and finds the task moved on by the
first: what was asked for is looked for then, so that it is not said to be
refused although it was done.
"""

import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import orjson

from engine.adapters.redis.tasks.lanes import lanes_of, types_aside
from engine.adapters.redis.tasks.restore_states import look_restored
from engine.adapters.redis.tasks.task_reader import BATCH_TASKS, Lanes, known, look, readable, sorted_out
from engine.adapters.redis.wire.connection import Connections
from engine.adapters.redis.wire.keys import Keys
from engine.adapters.redis.wire.layouts import LAYOUTS, Argument
from engine.core.task.lifecycle import Move, TaskStatus, step
from engine.core.task.outcome import Cause, Outcome
from engine.core.task.priority import DESCENDING
from engine.core.task.stored_task import StoredTask
from engine.core.task.task_id import is_task_id
from engine.errors import BrokerError, MoveRefused, TaskNotFound

CONTROL = b"control "  # begins what is published to keepers for the root: a command as JSON
BATCH_REQUESTS = 25  # looked at in one portion: each costs a round trip or two
TRIES = 20  # a task that moves on between reading and writing this often in a row is not one of this world

TYPES_AT_ONCE = 100  # looked at for one queue in one script call
ENDS = (TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED, TaskStatus.TIMEOUT)


Answer = TypeVar("Answer")


class TaskActions:
    def __init__(self, redis: Connections, keys: Keys, kept_ms: int) -> None:
        self._redis, self._keys, self._kept_ms = redis, keys, kept_ms

    def cancel(self, task_id: str, reason: str) -> TaskStatus:
        """End a task that waits, or have the supervisor end one that runs; return CANCELLED or RUNNING.

        Where that run ends otherwise and the task is to run once more, the keeper cancels it then.

        Raises `MoveRefused` if it has ended, `TaskNotFound`.
        """
        def attempt(stored: StoredTask) -> TaskStatus | None:
            if stored.state.status is TaskStatus.RUNNING:
                command = {"do": "cancel", "id": task_id, "run": stored.state.run, "reason": reason}
                return TaskStatus.RUNNING if self._send(stored.state.owner, command, stored) == b"OK" else None
            word = self.cancel_queued([stored], Move.CANCEL, reason)[0]
            return TaskStatus.CANCELLED if _went(word, stored, "cancel") else None

        def done(before: StoredTask, now: StoredTask) -> TaskStatus | None:
            return TaskStatus.CANCELLED if now.state.status is TaskStatus.CANCELLED else None

        return self._until_it_holds_still(task_id, attempt, done)

    def reapply_cancel_requests(self, cursor: bytes | None = None) -> tuple[int, bytes | None]:
        """Cancel some of what was to be cancelled while it ran, and has got away: its run ended in a retry, was given
        back or rescued. Return how many such requests need nobody any more, and where to go on, None at the end."""
        cursor, told = self._redis.call("HSCAN", self._keys.cancel_requests, cursor or b"0", "COUNT", BATCH_REQUESTS)
        requests = dict(zip(told[::2], told[1::2], strict=True))
        over = [part for task_id in requests if self._is_over(task_id.decode(errors="replace"), requests[task_id])
                for part in (task_id, requests[task_id])]
        done: int = self._redis.run("drop_cancel_requests", [self._keys.cancel_requests], over) if over else 0
        return done, None if cursor == b"0" else cursor

    def _is_over(self, task_id: str, request: bytes) -> bool:
        """Whether nothing is left to be done, now, about a task that was to be cancelled."""
        run, _, reason = request.decode(errors="replace").partition(" ")
        stored = look(self._redis, self._keys, [task_id])[0] if is_task_id(task_id) else None
        if stored is None or stored.state.status.is_final:
            return True
        if stored.state.status is TaskStatus.RUNNING and str(stored.state.run) == run:
            return False
        try:
            return self.cancel(task_id, reason) is TaskStatus.CANCELLED
        except (MoveRefused, TaskNotFound):
            return True

    def requeue(self, task_ids: Sequence[str]) -> int:
        """Queue tasks again after their end; return how many could be. Others are passed over."""
        count = 0
        for start in range(0, len(task_ids), BATCH_TASKS):
            found = readable(look(self._redis, self._keys, task_ids[start : start + BATCH_TASKS]))
            repeats = self._redis.repeats
            words = self._requeue(found)
            count += words.count(b"OK")
            if self._redis.repeats > repeats:  # nothing but a retry moves on what has ended
                count += sum(word == b"MOVED_ON" and stored.state.status.is_final
                             for stored, word in zip(found, words, strict=True))
        return count

    def requeue_one(self, task_id: str) -> None:
        """Raises `MoveRefused` if it has not ended, or completed; `TaskNotFound`."""
        def attempt(stored: StoredTask) -> bool | None:
            _refuse_unreadable(stored)
            return _went(self._requeue([stored])[0], stored, "retry")

        def done(before: StoredTask, now: StoredTask) -> bool | None:
            return True if before.state.status.is_final and before.seen != now.seen else None

        self._until_it_holds_still(task_id, attempt, done)

    def set_queue_state(self, queue: str, state: str) -> None:
        """Set a queue "open" or "paused"."""
        keys, layout = self._keys, LAYOUTS["set_queue_state"]
        names = [*layout.keys(keys), *(keys.lane(queue, priority) for priority in DESCENDING)]
        types = types_aside(self._redis, self._keys)
        for start in range(0, max(1, len(types)), TYPES_AT_ONCE):
            few = types[start : start + TYPES_AT_ONCE]
            args = layout.args(base=keys.base, now_ms=self._redis.now_ms(), queue=queue, queue_state=state)
            self._redis.run("set_queue_state", names, [*args, *few])

    def purge(self, queue: str, limit: int) -> int:
        """Cancel up to `limit` of the tasks queued in a queue, the first of the line first; return how many."""
        purged = 0
        for line in (line.key for line in lanes_of(self._redis, self._keys, queue)):
            while purged < limit:
                few = min(BATCH_TASKS, limit - purged)
                ids, strangers = sorted_out(self._redis.call("ZRANGE", line, 0, few - 1))
                if strangers:
                    self._redis.call("ZREM", line, *strangers)
                repeats = self._redis.repeats
                found = known(look(self._redis, self._keys, ids))
                words = self.cancel_queued(found, Move.CANCEL, "its queue was purged")
                went = words.count(b"OK")
                if self._redis.repeats > repeats:
                    went += sum(stored.state.status is TaskStatus.CANCELLED
                                for stored in known(look(self._redis, self._keys, ids))) - went
                purged += went
                if not went:
                    break
        return purged

    def delete(self, task_ids: Sequence[str]) -> int:
        """Forget tasks that have ended; return how many. Others are passed over."""
        deleted = 0
        for start in range(0, len(task_ids), BATCH_TASKS):
            few, repeats = task_ids[start : start + BATCH_TASKS], self._redis.repeats
            were_there = [line is not None for line in self._redis.call("HMGET", self._keys.states, *few)]
            words = self.remove(few)
            is_repeated = self._redis.repeats > repeats
            deleted += sum(word == b"OK" or (is_repeated and was_there and word == b"GONE")
                           for word, was_there in zip(words, were_there, strict=True))
        return deleted

    def send_command(self, supervisor: str, command: dict[str, Any]) -> bool:
        """Put a command into the queue of a supervisor; False if there is no such supervisor."""
        return self._send(supervisor, command) == b"OK"

    def control(self, command: Mapping[str, Any]) -> int:
        """Tell the root of every engine, through its keeper; return how many keepers heard it."""
        text = orjson.dumps({**command, "order": secrets.token_hex(6)})  # one that is sent twice is known by it
        heard: int = self._redis.call("PUBLISH", self._keys.keeper_wakeup, CONTROL + text)
        return heard

    # -- the scripts ----------------------------------------------------------------------------------------------

    def cancel_queued(self, found: Sequence[StoredTask], move: Move, reason: str = "") -> list[bytes]:
        """End tasks that no run holds; return the script's word on each."""
        keys, now_ms, lanes, layout = self._keys, self._redis.now_ms(), Lanes(self._keys), LAYOUTS["cancel_queued"]
        tasks: list[dict[str, Argument]] = []
        for stored in found:
            (task_id, state, is_stored), run = stored.seen, stored.next_end
            tasks.append({"id": task_id, "state": state, "is_stored": is_stored, "run": run,
                          "lane": lanes.number(stored.record.queue, stored.state.priority), "fair_key": stored.fair_key,
                          "outcome": _end_without_run(stored, move, run, reason, now_ms).encode()})
        names = [*layout.keys(keys, ended=keys.ended(step(TaskStatus.QUEUED, move))), *lanes.names()]
        args = layout.args(base=keys.base, now_ms=now_ms, move=move, remove_ms=now_ms + self._kept_ms)
        words: list[bytes] = self._redis.run("cancel_queued", names, [*args, *layout.rows("tasks", tasks)])
        return words

    def remove(self, task_ids: Sequence[str]) -> list[bytes]:
        """Forget tasks that have ended; return the script's word on each."""
        names = [*LAYOUTS["remove"].keys(self._keys), *map(self._keys.log, task_ids)]
        words: list[bytes] = self._redis.run("remove", names, task_ids)
        return words

    def _requeue(self, found: Sequence[StoredTask]) -> list[bytes]:
        if not found:
            return []
        keys, lanes, layout = self._keys, Lanes(self._keys), LAYOUTS["requeue"]
        tasks: list[dict[str, Argument]] = []
        for stored in found:
            task_id, state, is_stored = stored.seen
            tasks.append({"id": task_id, "state": state, "is_stored": is_stored, "fair_key": stored.fair_key,
                          "lane": lanes.number(stored.record.queue, stored.state.priority)})
        queues = lanes.queues()
        args = layout.args(base=keys.base, now_ms=self._redis.now_ms(), lane_count=len(queues))
        words: list[bytes] = self._redis.run("requeue", [*layout.keys(keys), *lanes.names()], [
            *args, *queues, *layout.rows("tasks", tasks)])
        return words

    def _send(self, supervisor: str, command: dict[str, Any], about: StoredTask | None = None) -> bytes:
        keys, layout = self._keys, LAYOUTS["send_command"]
        task_id, state, _ = about.seen if about else ("", b"", 0)
        # By its id the supervisor knows a command that it reads twice.
        text = orjson.dumps({**command, "command_id": secrets.token_hex(6)})
        word: bytes = self._redis.run("send_command", layout.keys(keys, supervisor), layout.args(
            base=keys.base, supervisor=supervisor, command=text, id=task_id, state=state,
            cancel_request=f"{command.get('run')} {command.get('reason')}"))
        return word

    def _until_it_holds_still(self, task_id: str, attempt: Callable[[StoredTask], Answer | None],
                              done: Callable[[StoredTask, StoredTask], Answer | None] = lambda before, now: None,
                              ) -> Answer:
        """Read the task and make the attempt, again whenever the task has moved on in between.

        `done(before, now)`: the answer, if the attempt that was made on what was seen before has succeeded after all.
        """
        before: StoredTask | None = None  # what an attempt was made on whose answer may be that of its repetition
        for _ in range(TRIES):
            stored = look_restored(self._redis, self._keys, [task_id], self._kept_ms)[0]
            if stored is None:
                raise TaskNotFound(task_id)
            answer = done(before, stored) if before is not None else None
            if answer is not None:
                return answer
            repeats = self._redis.repeats
            answer = attempt(stored)
            if answer is not None:
                return answer
            before = stored if self._redis.repeats > repeats else None
        raise BrokerError(f"task {task_id} moved on {TRIES} times between reading and writing it")


def _end_without_run(stored: StoredTask, move: Move, run: int, reason: str, now_ms: int) -> Outcome:
    if move is Move.CANCEL:
        return Outcome.cancelled(run, reason, ended_ms=now_ms)
    if stored.problem is not None:
        return Outcome.unreadable(run, stored.problem)
    return Outcome(Cause.EXPIRED, "Expired", "nobody started it before its time was over", run, ended_ms=now_ms)


def _refuse_unreadable(stored: StoredTask) -> None:
    if stored.problem is not None:
        raise BrokerError(f"task {stored.id} cannot be read: {stored.problem}")


def _went(word: bytes, stored: StoredTask, verb: str) -> bool | None:
    """Whether it was done; None if the task had moved on. Raises `MoveRefused`."""
    if word == b"ILLEGAL":
        raise MoveRefused(stored.id, verb, stored.state.status)
    return True if word == b"OK" else None
