"""Makes runs of claimed tasks: reads the first line of each record and finds the policy of the run.

Other programs may write to Redis too, so everything that the rest of the pool relies on is checked here.
"""

from collections.abc import Iterable
from typing import Any

import orjson

from engine.core.pool.slot import Run
from engine.core.task import task_id as task_ids
from engine.core.task.policy import RunPolicy
from engine.core.task.priority import TaskPriority
from engine.core.task.record import checked_options
from engine.core.worker import frames


class UnknownType(Exception):
    """A task that this pool cannot run. Redis gives it none, unless it has forgotten a type meanwhile."""

    def __init__(self, task_type: str, queue: str) -> None:
        super().__init__(f"this pool has no handler {task_type!r}")
        self.task_type, self.queue = task_type, queue


_FRESH = b"1 0 0"
_HEADS_MAX = 1024
_LARGE = frames.PIECE_BYTES_MAX - frames.TASK_HEAD.size

_Head = tuple[str, str, int, RunPolicy]  # type, queue, priority, and what holds for such a task


class RunFactory:
    """`default`: the policy where neither handler nor task says otherwise."""

    def __init__(self, default: RunPolicy) -> None:
        self.default = default
        self.policies: dict[str, RunPolicy] = {}
        self._heads: dict[bytes, _Head] = {}
        self._token = 0

    def learn(self, handlers: Iterable[dict[str, Any]]) -> None:
        """Take the options of the handlers over. `handlers` are announcements of the fork server."""
        self._heads.clear()
        self.policies = {handler["name"]: self.default.with_handler(handler) for handler in handlers}

    def make(self, task_id: bytes, record: bytes, counters: bytes) -> Run:
        """`counters` is b"run attempts crashes priority", the last only where it may differ from what the record says.

        Raises `ValueError` for a record that cannot be read, `UnknownType` for one that cannot be run here.
        """
        number, attempts, crashes, changed = (1, 0, 0, None) if counters == _FRESH else _counts(counters)
        self._token = token = (self._token + 1) & frames.TOKEN_MAX
        line = record[: record.index(b"\n")]
        head = self._heads.get(line) or self._read(line)
        if len(task_id) != task_ids.LENGTH or not task_id.isascii():
            raise ValueError("its id is none of this engine's")
        task_type, queue, priority, policy = head
        is_alone = len(record) > _LARGE
        if policy.limits is not None:
            is_alone, policy = is_alone or policy.limits.need_run_alone, policy.after_crashes(crashes)
        return Run(task_id, number, attempts, crashes, task_type, queue, policy, record, token, is_alone,
                   priority if changed is None else changed)

    def _read(self, line: bytes) -> _Head:
        """Tasks of one kind mostly share their first line, so what it says is kept for the next."""
        try:
            head = orjson.loads(line)
            task_type, queue, priority = head[0], head[1], int(TaskPriority(head[2]))
            policy = self.policies.get(task_type)
            options = checked_options(head[3]) if len(head) == 4 else None
        except (TypeError, IndexError, KeyError, AttributeError) as error:
            raise ValueError(f"{type(error).__name__}: {error}") from error
        if type(task_type) is not str or type(queue) is not str:
            raise ValueError("the type and the queue of a task are texts")
        if policy is None:
            raise UnknownType(task_type, queue)
        if options is not None:
            policy = policy.with_options(options)
        if len(self._heads) >= _HEADS_MAX:
            self._heads.clear()
        self._heads[line] = read = task_type, queue, priority, policy
        return read

    def placeholder_run(self, task_id: bytes, number: int, queue: str = "") -> Run:
        """A run of a task that cannot be read or cannot be run here: only to be settled."""
        return Run(task_id, number, 0, 0, "", queue, self.default, b"", 0)


def _counts(counters: bytes) -> tuple[int, int, int, int | None]:
    number, attempts, crashes, *changed = map(int, counters.split())
    if not (0 < number <= frames.TOKEN_MAX and 0 <= attempts <= frames.TOKEN_MAX and crashes >= 0):
        raise ValueError(f"no engine counts so: {counters!r:.80}")
    return number, attempts, crashes, int(TaskPriority(changed[0])) if changed else None
