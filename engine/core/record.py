"""What a submitter said about a task, as it is stored: written once, never changed.

    ["thumbnail","images",2,1732381289123,{"timeout":30}]\\n{"id":7}
     type        queue    priority  created_ms  options    payload

One line of JSON, then the payload as it came. The supervisor reads the line
and passes the payload on unread; `options` holds only what was given.
"""

from dataclasses import dataclass, field
from typing import Any, TypedDict

import orjson

from engine.core.priority import TaskPriority


class Options(TypedDict, total=False):
    """What a submit may say beyond type, queue and priority. Absent means: as the handler says."""

    name: str
    timeout: float  # seconds of one run until it is killed
    soft_timeout: float  # seconds of one run until SoftTimeout is raised inside it
    max_retries: int
    expires_ms: int  # moment after which it is not started any more
    due_ms: int  # moment before which it is not started
    fair_key: str
    tags: list[str]
    max_deliveries: int  # 1: never run it a second time when the first run's fate is unknown
    result_ttl: float  # seconds that the task is kept after it completed


@dataclass(frozen=True, slots=True)
class Record:
    """One stored task. `payload` is JSON text that nobody but the worker reads."""

    task_type: str
    queue: str
    priority: TaskPriority
    created_ms: int
    payload: bytes
    options: Options = field(default_factory=Options)

    def encode(self) -> bytes:
        head: list[Any] = [self.task_type, self.queue, int(self.priority), self.created_ms]
        if self.options:
            head.append(self.options)
        return b"%b\n%b" % (orjson.dumps(head), self.payload)

    @classmethod
    def decode(cls, stored: bytes) -> "Record":
        """Read a stored record; raises `ValueError` for anything that `encode` did not write."""
        line, newline, payload = stored.partition(b"\n")
        if not newline:
            raise ValueError("a task record without a payload")
        head = orjson.loads(line)
        if not isinstance(head, list) or not 4 <= len(head) <= 5:
            raise ValueError("a task record whose first line is not a list of four or five")
        task_type, queue, priority, created_ms = head[:4]
        options = head[4] if len(head) == 5 else {}
        if not (isinstance(task_type, str) and isinstance(queue, str) and isinstance(created_ms, int)
                and isinstance(options, dict)):
            raise ValueError("a task record with a field of the wrong type")
        return cls(task_type, queue, TaskPriority(priority), created_ms, payload, Options(**options))  # type: ignore[typeddict-item]
