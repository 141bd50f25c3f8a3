"""Reads the JSON documents that are stored in Redis, and makes sure of the types of their fields.

Anybody can write to Redis, and the rest of the engine relies on the types. Each function reads one kind of document. A
document that cannot be read becomes an empty one, None, or one that says so; no function raises an exception.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, cast

import orjson

from engine.core.task.options import COUNT_MAX, MEMORY_BYTES_MAX
from engine.core.task.outcome import Outcome
from engine.core.task.record import MOMENT_MS_MAX

_TEXT_SHOWN_MAX = 1_000
_SECRET = re.compile(r"whsec_[A-Za-z0-9+/]{4,200}={0,2}", re.ASCII)


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= MOMENT_MS_MAX


def _moment(value: Any) -> bool:
    return _number(value) and value >= 0


def _count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= COUNT_MAX


def _bytes(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MEMORY_BYTES_MAX


def _object(value: Any) -> bool:
    return isinstance(value, dict)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_text, value))


def _secret(value: Any) -> bool:
    """In the form of Standard Webhooks."""
    return isinstance(value, str) and _SECRET.fullmatch(value) is not None and len(value) % 4 == 2


def _error(value: Any) -> bool:
    return isinstance(value, dict) and _text(value.get("kind")) and _text(value.get("message")) and \
        isinstance(value.get("traceback"), str | None) and value.keys() <= {"kind", "message", "traceback"}


def _slots(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(slot, dict) and isinstance(slot.get("task"), dict | None) for slot in value)


Shape = Mapping[str, Callable[[Any], bool]]

_OUTCOME: Shape = {
    "run": _count, "cause": _text, "error": _error, "started_ms": _moment, "ended_ms": _moment, "wall_s": _number,
    "cpu_s": _number, "peak_rss_bytes": _bytes, "worker": _text, "pid": _count, "post_mortem": _object}
_PROGRESS: Shape = {"fraction": _number, "message": _text, "at_ms": _moment}
_LOG_ROW: Shape = {"at_ms": _moment, "run": _count, "stream": _text, "level": _text, "text": _text}
_WEBHOOK: Shape = {
    "secret": _secret, "url": _text, "on": _texts, "task_type": _text, "queue": _text, "tag": _text,
    "created_at": _text}
_WEBHOOK_MESSAGE: Shape = {
    "task_id": _text, "status": _text, "tries": _count, "body": _object, "webhook": _text, "url": _text,
    "last_error": _text}
_API_KEY: Shape = {
    "name": _text, "role": _text, "queues": _texts, "rate_per_s": _number, "hash": _text, "created_at": _text}
_HISTORY_ENTRY: Shape = {"at_ms": _moment, "rows": _object}
_REPORT: Shape = {"host": _text, "pool": _text, "queues": _texts, "slots": _slots, "identity": _object,
                  "import_failures": _object, "hook_failures": _object}


def _loaded(text: bytes) -> Any:
    try:
        return orjson.loads(text)
    except ValueError:
        return None


def _fits(document: Any, shape: Shape) -> bool:
    """Whether it is an object, and each of its known fields has its type or is null."""
    return isinstance(document, dict) and all(
        value is None or name not in shape or shape[name](value) for name, value in document.items())


def _read(text: bytes, shape: Shape) -> dict[str, Any] | None:
    """Return the object, or None if it does not fit."""
    document = _loaded(text)
    return document if _fits(document, shape) else None


# The outcome that a worker writes for a run that returned (adapters/process/worker/outcomes.py). Nearly all outcomes
# that are read are of this form.
_RETURNED = ("run", "cause", "result", "started_ms", "ended_ms", "wall_s", "cpu_s", "peak_rss_bytes",
             "logs_dropped_bytes", "worker", "pid")
_RETURNED_TYPES = (int, int, int, float, float, int, str, int)
_BEFORE_RESULT = re.compile(rb'\{"run":\d{1,9},"cause":"returned","result":')
_AFTER_RESULT = re.compile(
    rb',"started_ms":\d{1,14},"ended_ms":\d{1,14},"wall_s":\d{1,13}\.\d{6},"cpu_s":\d{1,13}\.\d{6},'
    rb'"peak_rss_bytes":\d{1,15},"logs_dropped_bytes":\d{1,15},"worker":"[^"\\\x00-\x1f\x80-\xff]*","pid":\d{1,9}\}')


def result(text: bytes) -> Any:
    """Return the result of a run, None if it has none: the same as in `outcome`, without reading the rest."""
    before, end = _BEFORE_RESULT.match(text), text.rfind(b',"started_ms":')
    if before is not None and _AFTER_RESULT.fullmatch(text, max(end, 0)) is not None:
        try:
            return orjson.loads(text[before.end() : end])
        except ValueError:
            pass
    return outcome(text, 0).get("result")


def _is_returned(document: Any) -> bool:
    """Whether it is such an outcome. Decides the same as `_fits`, in a third of the time."""
    if type(document) is not dict or tuple(document) != _RETURNED:
        return False
    run, cause, _, started_ms, ended_ms, wall_s, cpu_s, rss_bytes, _, worker, pid = document.values()
    return (cause == "returned"
            and (type(run), type(started_ms), type(ended_ms), type(wall_s), type(cpu_s), type(rss_bytes), type(worker),
                 type(pid)) == _RETURNED_TYPES
            and 0 <= run <= COUNT_MAX and 0 <= pid <= COUNT_MAX and 0 <= started_ms <= MOMENT_MS_MAX
            and 0 <= ended_ms <= MOMENT_MS_MAX and 0 <= rss_bytes <= MEMORY_BYTES_MAX
            and 0 <= wall_s <= MOMENT_MS_MAX and 0 <= cpu_s <= MOMENT_MS_MAX)


def outcome(text: bytes, run: int) -> dict[str, Any]:
    """Read how a run ended; `run` is its number, for an outcome that does not say it."""
    document = _loaded(text)
    if _is_returned(document):
        return cast(dict[str, Any], document)
    if not _fits(document, _OUTCOME):
        document = orjson.loads(Outcome.unreadable(run, "its outcome is not as any worker writes it").encode())
    if document.get("run") is None:
        document["run"] = run
    return cast(dict[str, Any], document)


def progress(text: bytes) -> dict[str, Any] | None:
    """Read the progress that a handler has reported."""
    return _read(text, _PROGRESS)


def log_row(text: bytes) -> dict[str, Any]:
    """Read one row of a run's log. Text that is no row becomes the text of one."""
    document = _read(text, _LOG_ROW)
    if document is not None and all(document.get(name) is not None for name in ("at_ms", "run", "stream", "text")):
        return document
    return {"at_ms": 0, "run": 0, "stream": "stdout", "level": None,
            "text": text[:_TEXT_SHOWN_MAX].decode(errors="replace")}


def report(text: bytes) -> dict[str, Any]:
    """Read the report of a supervisor; empty if it cannot be read."""
    return _read(text, _REPORT) or {}


def announcement(text: bytes) -> dict[str, Any]:
    """Read a pool's announcement of a handler; empty if it cannot be read."""
    return _read(text, {}) or {}


def sample(text: bytes) -> dict[str, Any]:
    """Read what was measured of a process; empty if it cannot be read."""
    return _read(text, {}) or {}


def history_entry(text: bytes) -> dict[str, Any] | None:
    """Read what the processes of an engine used in some seconds."""
    return _whole(text, _HISTORY_ENTRY, ("at_ms", "rows"))


def webhook(text: bytes, *required: str) -> dict[str, Any] | None:
    """Read a webhook; None if one of the `required` fields is missing."""
    return _whole(text, _WEBHOOK, required)


def message(text: bytes) -> dict[str, Any] | None:
    """Read a message to a webhook that has not been delivered."""
    document = _whole(text, _WEBHOOK_MESSAGE, ("task_id", "status", "tries", "body", "url"))
    return None if document is None else {"webhook": None, **document}


def api_key(text: bytes) -> dict[str, Any]:
    """Read a key of the API; empty if it cannot be read, so that it admits nobody."""
    return _read(text, _API_KEY) or {}


def _whole(text: bytes, shape: Shape, required: Iterable[str]) -> dict[str, Any] | None:
    document = _read(text, shape)
    return document if document is not None and all(document.get(name) is not None for name in required) else None


class CancelCommand(NamedTuple):
    """A command that asks a supervisor to end a run."""

    task_id: str
    run: int
    reason: str


def cancel_command(text: bytes) -> CancelCommand | None:
    """Read a command of a supervisor's queue; None if it is no command to cancel."""
    match _read(text, {}):
        case {"do": "cancel", "id": str(task_id), "run": int(run), "reason": str(reason)}:
            return CancelCommand(task_id, run, reason)
    return None
