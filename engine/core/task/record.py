"""The record of a task, as it is stored at submit. It can be changed until the first run starts (`amend.lua`).

    ["thumbnail","images",2,{"timeout":30}]\\n{"id":7}
     type        queue    priority options    payload

A record is one line of JSON and then the payload. The supervisor reads the line, and passes the payload on unread.
`options` holds only the options that were given. The id of the task holds the moment of the submit.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, TypedDict, cast

import orjson

from engine.core.task.options import MEMORY_BYTES_MAX, OPTIONS, SECONDS_MAX, Option, OptionType
from engine.core.task.priority import TaskPriority
from engine.core.task.task_id import created_ms, is_task_id


class RecordOptions(TypedDict, total=False):
    """The options of a stored task, those of the table that have a key. Absent means: as the handler says."""

    name: str
    due_ms: int  # moment before which it is not started
    expires_ms: int  # moment after which no run of it is started
    timeout: float
    soft_timeout: float
    max_retries: int
    max_deliveries: int
    fair_key: str
    tags: list[str]
    max_memory: int  # bytes
    max_cpu_seconds: float
    max_processes: int
    nice: int
    result_ttl: float  # seconds
    webhook: dict[str, Any]  # "url" and "on", the final statuses to report
    traceparent: str


MOMENT_MS_MAX = 99_999_999_999_999


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _is_seconds(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value <= SECONDS_MAX


def _is_whole(most: float) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and 0 <= value <= most


def _stored_form(option: Option) -> Callable[[Any], bool]:
    """The function that says whether a value is in the form in which this option is stored."""
    match option.type:
        case OptionType.SECONDS:
            return _is_whole(MOMENT_MS_MAX) if option.is_moment else _is_seconds
        case OptionType.COUNT:
            return _is_whole(option.high)
        case OptionType.NUMBER:
            return lambda value: type(value) in (int, float) and option.low <= value <= option.high
        case OptionType.PRIORITY:
            return _is_whole(max(TaskPriority))
        case OptionType.MEMORY:
            return _is_whole(MEMORY_BYTES_MAX)
        case OptionType.MEMORY_STEPS:
            return lambda value: isinstance(value, list) and all(map(_is_whole(MEMORY_BYTES_MAX), value))
        case OptionType.BOOLEAN:
            return lambda value: isinstance(value, bool)
        case OptionType.TAGS | OptionType.EXCEPTIONS:
            return _is_texts
        case OptionType.WEBHOOK:
            return lambda value: isinstance(value, dict)
        case OptionType.TEXT | OptionType.QUEUE | OptionType.CHOICE | OptionType.TRACEPARENT:
            return _is_text


_STORED_FORMS = {option.key: _stored_form(option) for option in OPTIONS.values() if option.key is not None}


def checked_options(options: Any) -> RecordOptions:
    """Options as they were read, once each of them has its stored form; anybody could have written to Redis.

    Options that are not in the table come from a later version, and are left alone. Raises `ValueError`.
    """
    if not isinstance(options, Mapping):
        raise ValueError(f"its options are {options!r:.80}")
    for key, value in options.items():
        if value is not None and key in _STORED_FORMS and not _STORED_FORMS[key](value):
            raise ValueError(f"its {key} is {value!r:.80}")
    return cast(RecordOptions, options)


NO_OPTIONS = cast(RecordOptions, MappingProxyType({}))


class Record(NamedTuple):
    """One stored task.

    `created_ms` is the moment of the submit, in milliseconds since 1970. `payload` is JSON text; only the worker
    parses it.
    """

    task_type: str
    queue: str
    priority: TaskPriority
    created_ms: int
    payload: bytes
    options: RecordOptions = NO_OPTIONS

    def encode(self) -> bytes:
        """Return the stored form."""
        head: list[Any] = [self.task_type, self.queue, int(self.priority)]
        if self.options:
            head.append(self.options)
        return b"%b\n%b" % (orjson.dumps(head), self.payload)

    @classmethod
    def decode(cls, stored: bytes, task_id: str) -> "Record":
        """Read the stored form. Raises `ValueError` for text that `encode` cannot have written."""
        line, newline, payload = stored.partition(b"\n")
        if not newline:
            raise ValueError("a task record without a payload")
        if not is_task_id(task_id):
            raise ValueError("a task record under an id that is none")
        head = _heads.get(line) or _read_head(line)
        return cls(*head[:3], created_ms(task_id), payload, head[3])


Head = tuple[str, str, TaskPriority, RecordOptions]

HEADS_KEPT, HEAD_BYTES_KEPT = 512, 512
_heads: dict[bytes, Head] = {}  # first lines without options, which the tasks of one type share


def _read_head(line: bytes) -> Head:
    head = orjson.loads(line)
    if not isinstance(head, list) or not 3 <= len(head) <= 4:
        raise ValueError("a task record whose first line is not a list of three or four")
    task_type, queue, priority = head[:3]
    if not (isinstance(task_type, str) and isinstance(queue, str) and type(priority) is int):
        raise ValueError("a task record with a field of the wrong type")
    if len(head) == 4:
        return task_type, queue, TaskPriority(priority), checked_options(head[3])
    read = task_type, queue, TaskPriority(priority), NO_OPTIONS
    if len(_heads) < HEADS_KEPT and len(line) <= HEAD_BYTES_KEPT:
        _heads[line] = read
    return read
