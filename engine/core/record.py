"""What a submitter said about a task, as it is stored: written at submit, changed only
before its first run (`amend.lua`).

    ["thumbnail","images",2,{"timeout":30}]\\n{"id":7}
     type        queue    priority options    payload

One line of JSON, then the payload as it came. The supervisor reads the line
and passes the payload on unread; `options` holds only what was given. When it was
submitted is not written, since the id says it.
"""

from dataclasses import dataclass, field
from typing import Any, TypedDict

import orjson

from engine.core.identity import created_ms, is_task_id
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
    traceparent: str  # W3C trace context
    webhook: dict[str, Any]  # "url" and "on", the final statuses to tell it of


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
        head: list[Any] = [self.task_type, self.queue, int(self.priority)]
        if self.options:
            head.append(self.options)
        return b"%b\n%b" % (orjson.dumps(head), self.payload)

    @classmethod
    def decode(cls, stored: bytes, task_id: str) -> "Record":
        """Read the stored record of a task; raises `ValueError` for anything that `encode` did not write."""
        line, newline, payload = stored.partition(b"\n")
        if not newline:
            raise ValueError("a task record without a payload")
        head = orjson.loads(line)
        if not isinstance(head, list) or not 3 <= len(head) <= 4:
            raise ValueError("a task record whose first line is not a list of three or four")
        task_type, queue, priority = head[:3]
        options = head[3] if len(head) == 4 else {}
        if not (isinstance(task_type, str) and isinstance(queue, str) and isinstance(options, dict)
                and is_task_id(task_id)):
            raise ValueError("a task record with a field of the wrong type, or under an id that is none")
        return cls(task_type, queue, TaskPriority(priority), created_ms(task_id), payload, Options(**options))  # type: ignore[typeddict-item]
