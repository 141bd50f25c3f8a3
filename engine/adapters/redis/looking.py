"""Reading tasks as they are stored, and numbering the lines that a script is to touch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from engine.adapters.redis.connection import Argument, Connections
from engine.adapters.redis.keys import Keys
from engine.core.life import Life
from engine.core.lifecycle import TaskStatus
from engine.core.priority import TaskPriority
from engine.core.record import Record
from engine.errors import BrokerError

BATCH_TASKS = 250  # looked at in one script call


@dataclass(frozen=True, slots=True)
class Stored:
    """A task as Redis has it at one moment."""

    id: str
    record: Record
    life: Life  # made up for a task that is queued since its submit and has none stored
    outcome: dict[str, Any] | None = None  # of the latest run, if it has ended
    progress: dict[str, Any] | None = None  # of the run that is under way
    line: bytes | None = None  # the life line as stored

    @property
    def fair_key(self) -> str:
        return self.record.options.get("fair_key", "")

    @property
    def seen(self) -> tuple[str, bytes, int]:
        """What a script compares, to know whether the task has moved on since: id, life line, whether it is stored."""
        if self.line is not None:
            return self.id, self.line, 1
        return self.id, b"QUEUED 0 0 0 %d 0 0 -" % self.life.priority, 0

    @property
    def next_end(self) -> int:
        """The run that an end without a run counts for: the latest, or the next one if that has its own end."""
        return self.life.run if self.outcome is None else self.life.run + 1


def look(redis: Connections, keys: Keys, ids: Sequence[str]) -> list[Stored | None]:
    """Read tasks; None where there is none. Raises `BrokerError` for one that cannot be read."""
    names = (keys.tasks, keys.life, keys.outcomes, keys.progress)
    found: list[Stored | None] = []
    for start in range(0, len(ids), BATCH_TASKS):
        few = ids[start : start + BATCH_TASKS]
        told = redis.run("look", names, few)
        found += [_stored(task_id, *told[4 * n : 4 * n + 4]) for n, task_id in enumerate(few)]
    return found


def known(found: Sequence[Stored | None]) -> list[Stored]:
    return [stored for stored in found if stored is not None]


def _stored(task_id: str, record: bytes | None, line: bytes | None, outcome: bytes | None,
            progress: bytes | None) -> Stored | None:
    if record is None:
        return None
    try:
        told = Record.decode(record, task_id)
        life = (Life(TaskStatus.QUEUED, priority=told.priority, at_ms=told.created_ms) if line is None
                else Life.parse(line))
    except ValueError as error:
        raise BrokerError(f"task {task_id} cannot be read: {error}") from error
    return Stored(task_id, told, life, orjson.loads(outcome) if outcome else None,
                  orjson.loads(progress) if progress else None, line)


class Lines:
    """Lines of queues in the order in which a script is given their keys."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._numbers: dict[tuple[str, TaskPriority], int] = {}

    def number(self, queue: str, priority: TaskPriority) -> int:
        """The number, from 1, by which the script knows this line."""
        return self._numbers.setdefault((queue, priority), len(self._numbers) + 1)

    def names(self, *, flows: bool = True) -> list[str]:
        """The keys: each line, followed by its flows unless the script does not touch them."""
        names = []
        for queue, priority in self._numbers:
            names.append(self._keys.line(queue, priority))
            if flows:
                names.append(self._keys.flows(queue, priority))
        return names

    def queues(self) -> list[Argument]:
        """How many lines there are, and the queue of each."""
        return [len(self._numbers), *(queue for queue, _ in self._numbers)]
