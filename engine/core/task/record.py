"""What a submitter said about a task, as it is stored: written at submit, changed only
before its first run (`amend.lua`).

    ["thumbnail","images",2,{"timeout":30}]\\n{"id":7}
     type        queue    priority options    payload

One line of JSON, then the payload as it came. The supervisor reads the line
and passes the payload on unread; `options` holds only what was given. When it was
submitted is not written, since the id says it.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, TypedDict, cast

import orjson

from engine.core.task.limits import MEMORY_BYTES_MAX, NICE_MAX
from engine.core.task.priority import TaskPriority
from engine.core.task.task_id import created_ms, is_task_id


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
    max_memory: int  # bytes of a run's whole tree
    max_cpu_seconds: float  # of a run's whole tree
    max_processes: int  # of a run, its worker included
    nice: int
    result_ttl: float  # seconds that the task is kept after it completed
    traceparent: str  # W3C trace context
    webhook: dict[str, Any]  # "url" and "on", the final statuses to tell it of


COUNT_MAX = 1_000_000_000
SECONDS_MAX = 3_155_760_000.0  # a hundred years, as for every option in seconds
MOMENT_MS_MAX = 99_999_999_999_999


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= COUNT_MAX


def _is_seconds(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value <= SECONDS_MAX


def _is_moment(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MOMENT_MS_MAX


_SHAPES: dict[str, Callable[[Any], bool]] = {
    "name": _is_text, "timeout": _is_seconds, "soft_timeout": _is_seconds, "max_retries": _is_count,
    "expires_ms": _is_moment, "due_ms": _is_moment, "fair_key": _is_text,
    "tags": lambda value: isinstance(value, list) and all(map(_is_text, value)), "max_deliveries": _is_count,
    "max_memory": lambda value: type(value) is int and 0 <= value <= MEMORY_BYTES_MAX, "max_cpu_seconds": _is_seconds,
    "max_processes": _is_count, "nice": lambda value: type(value) is int and 0 <= value <= NICE_MAX,
    "result_ttl": _is_seconds, "traceparent": _is_text, "webhook": lambda value: isinstance(value, dict),
}


def believed(options: Any) -> Options:
    """Options as stored, once it is sure that somebody's hand has not changed their kinds. Raises `ValueError`."""
    if not isinstance(options, Mapping):
        raise ValueError(f"its options are {options!r:.80}")
    for name, value in options.items():
        if value is not None and name in _SHAPES and not _SHAPES[name](value):
            raise ValueError(f"its {name} is {value!r:.80}")
    return cast(Options, options)


NO_OPTIONS = cast(Options, MappingProxyType({}))


class Record(NamedTuple):
    """One stored task. `payload` is JSON text that nobody but the worker reads."""

    task_type: str
    queue: str
    priority: TaskPriority
    created_ms: int
    payload: bytes
    options: Options = NO_OPTIONS

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
        if not is_task_id(task_id):
            raise ValueError("a task record under an id that is none")
        head = _heads.get(line) or _read_head(line)
        return cls(*head[:3], created_ms(task_id), payload, head[3])


Head = tuple[str, str, TaskPriority, Options]

HEADS_KEPT, HEAD_BYTES_KEPT = 512, 512
_heads: dict[bytes, Head] = {}  # those without options: the tasks of one type share them


def _read_head(line: bytes) -> Head:
    head = orjson.loads(line)
    if not isinstance(head, list) or not 3 <= len(head) <= 4:
        raise ValueError("a task record whose first line is not a list of three or four")
    task_type, queue, priority = head[:3]
    if not (isinstance(task_type, str) and isinstance(queue, str) and type(priority) is int):
        raise ValueError("a task record with a field of the wrong type")
    if len(head) == 4:
        return task_type, queue, TaskPriority(priority), believed(head[3])
    read = task_type, queue, TaskPriority(priority), NO_OPTIONS
    if len(_heads) < HEADS_KEPT and len(line) <= HEAD_BYTES_KEPT:
        _heads[line] = read
    return read
