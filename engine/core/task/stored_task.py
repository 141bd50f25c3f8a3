"""A task as it is stored: its record, its state, and the outcome of its latest run.

Anybody could have written anything there, so that reading never fails: others stand in for what cannot be read.
"""

from hashlib import blake2b
from typing import Any, NamedTuple

import orjson

from engine.core.task import stored_json
from engine.core.task.lifecycle import TaskStatus
from engine.core.task.outcome import Outcome
from engine.core.task.priority import TaskPriority
from engine.core.task.record import Record
from engine.core.task.state import StoredState
from engine.core.task.task_id import created_ms


class StoredTask(NamedTuple):
    """A task as the store has it at one moment."""

    id: str
    record: Record
    state: StoredState  # made up for a task that was never claimed, which has none stored
    outcome: dict[str, Any] | None = None  # of the latest run, if it has ended
    progress: dict[str, Any] | None = None  # of the run that is under way, or was killed or crashed
    line: bytes | None = None  # the state as it is stored
    problem: str | None = None  # why its record or its state cannot be read: others stand in for them
    is_lost: bool = False  # its state cannot be read: nobody knows where it is, or whether it runs

    @property
    def fair_key(self) -> str:
        return self.record.options.get("fair_key") or ""

    @property
    def seen(self) -> tuple[str, bytes, int]:
        """What a script compares, to know whether the task has moved on since: id, state, whether that is stored."""
        if self.line is not None:
            return self.id, self.line, 1
        return self.id, b"QUEUED 0 0 0 %d 0 0 -" % self.state.priority, 0

    @property
    def next_end(self) -> int:
        """The run that an end without a run counts for: the latest, or the next one if that has its own end."""
        return self.state.run if self.outcome is None else self.state.run + 1

    @property
    def version(self) -> str:
        """A short text that changes with anything that is said about the task and with each of its moves."""
        return blake2b(self.record.encode() + b"\n" + self.seen[1], digest_size=9).hexdigest()


def parse(task_id: str, record: bytes, line: bytes | None, outcome: bytes | None, progress: bytes | None) -> StoredTask:
    """The task of what is stored under its id. What cannot be read is replaced, and named as the `problem`."""
    problem = None
    try:
        told = Record.decode(record, task_id)
    except ValueError as error:
        problem = str(error)
        told = Record("", "", TaskPriority.NORMAL, created_ms(task_id), b"null")  # stands in for it
    if line is None:
        state = StoredState(TaskStatus.QUEUED, priority=told.priority, at_ms=told.created_ms)
        return StoredTask(task_id, told, state, problem=problem)
    try:
        state = StoredState.parse(line)
    except ValueError as error:
        end = Outcome.unreadable(0, str(error)).encode()
        state = StoredState(TaskStatus.FAILED, priority=told.priority, at_ms=told.created_ms)
        return StoredTask(task_id, told, state, stored_json.outcome(end, 0), None, line, str(error), is_lost=True)
    ended = stored_json.outcome(outcome, state.run) if outcome else None
    said = stored_json.progress(progress) if progress else _last_progress(ended)
    return StoredTask(task_id, told, state, ended, said, line, problem)


def _last_progress(outcome: dict[str, Any] | None) -> dict[str, Any] | None:
    """What a run that was killed or crashed had said last of how far it is."""
    if outcome is None or not outcome.get("post_mortem"):
        return None
    said = outcome["post_mortem"].get("progress")
    return stored_json.progress(orjson.dumps(said)) if isinstance(said, dict) else None
