"""How a run ended, as its worker writes it: the verdict and the outcome JSON of `core/task/outcome.py`."""

import math
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Any

import orjson

from engine.adapters.process.forkserver.handler_table import LoadedHandler
from engine.adapters.process.own_frames import FOLDER
from engine.core.task.outcome import Cause
from engine.core.task.retry import PAUSE_S_MAX
from engine.core.worker import frames
from engine.errors import (
    Cancel,
    InvalidOption,
    InvalidPayload,
    Retry,
    SoftTimeout,
    TaskInterrupted,
    UnknownHandler,
    held_by,
)
from engine.tasks.encoding import first_fault, plain, rewritten

MESSAGE_CHARS_MAX = 8_192
TRACEBACK_CHARS_MAX = 32_768
_HERE = FOLDER
_TRACEBACK: Any = BaseException.__dict__["__traceback__"]  # whatever a __getattribute__ of the user's does


class InvalidResult(Exception):
    """What the handler returned is not JSON, or too large."""


class PayloadRefused(InvalidPayload):
    """The payload does not fit: the engine's word, apart from an InvalidPayload that a handler raises itself."""


_WORDS = (SoftTimeout, TaskInterrupted, Cancel, Retry)  # in a group, the first of these is what counts
_JUDGED: tuple[tuple[type[BaseException], bytes, Cause], ...] = (
    (InvalidResult, frames.FAILED, Cause.INVALID_RESULT),
    (PayloadRefused, frames.FAILED, Cause.INVALID_PAYLOAD),
    (Retry, frames.RETRY, Cause.RETRY_ASKED),
    (Cancel, frames.CANCEL, Cause.CANCELLED),
    (SoftTimeout, frames.SOFT_TIMEOUT, Cause.SOFT_TIMEOUT),
    (TaskInterrupted, frames.INTERRUPTED, Cause.CANCELLED),
)


@dataclass(slots=True)
class RunFacts:
    """What is known of a run whatever its end."""

    run: int
    started_ms: int
    ended_ms: int
    wall_s: float
    cpu_s: float
    peak_rss_bytes: int
    logs_dropped_bytes: int


class OutcomeWriter:
    """Writes the outcomes of one worker."""

    def __init__(self, worker: str, pid: int, result_bytes_max: int) -> None:
        self._worker, self._pid, self._result_bytes_max = worker, pid, result_bytes_max
        name = orjson.dumps(worker).replace(b"%", b"%%")
        self._template = (
            b'{"run":%%d,"cause":"returned","result":%%b,"started_ms":%%d,"ended_ms":%%d,"wall_s":%%.6f,'
            b'"cpu_s":%%.6f,"peak_rss_bytes":%%d,"logs_dropped_bytes":%%d,"worker":%b,"pid":%d}'
            % (name, pid))

    def result(self, returned: Any) -> bytes:
        """The result as JSON; raises `InvalidResult` that says what is wrong with it."""
        try:
            encoded = orjson.dumps(returned, default=plain)
        except (TypeError, ValueError, RecursionError, MemoryError) as error:
            encoded = _rewritten(returned, error)
        if b"null" in encoded and returned is not None:  # orjson writes NaN as null
            fault = first_fault(returned, "the result")
            if fault is not None:
                raise _not_json(returned, fault)
        if len(encoded) > self._result_bytes_max:
            raise InvalidResult(f"the result has {len(encoded):,} bytes as JSON, over the limit of "
                                f"{self._result_bytes_max:,} (result_bytes_max): store it elsewhere and return where")
        return encoded

    def completed(self, run: int, result: bytes, started_ms: int, ended_ms: int, wall_s: float, cpu_s: float,
                  peak_rss_bytes: int, logs_dropped_bytes: int) -> bytes:
        """The outcome of a run that has returned; `result` is JSON, moments are in milliseconds since the epoch."""
        return self._template % (run, result, started_ms, ended_ms, wall_s, cpu_s, peak_rss_bytes, logs_dropped_bytes)

    def failed(self, handler: LoadedHandler | None, error: BaseException, facts: RunFacts) -> tuple[bytes, bytes]:
        """Verdict and outcome of a run that an exception ended."""
        if issubclass(type(error), UnknownHandler) and handler is None:
            return frames.UNKNOWN, b"{}"
        telling = word_in(error)
        try:
            verdict, cause = _judge(handler, telling)
            retry_after = pause_s(telling.after) if issubclass(type(telling), Retry) else None  # type: ignore[attr-defined]
        except Exception as another:  # noqa: BLE001  no pause, or an exception that cannot be asked
            telling, verdict, cause, retry_after = another, frames.FAILED, Cause.RAISED, None
        outcome: dict[str, Any] = {
            "run": facts.run, "cause": cause, "result": None,
            "error": {"kind": _kind(telling), "message": message_of(telling), "traceback": traceback_of(error)},
            "started_ms": facts.started_ms, "ended_ms": facts.ended_ms, "wall_s": round(facts.wall_s, 6),
            "cpu_s": round(facts.cpu_s, 6), "peak_rss_bytes": facts.peak_rss_bytes,
            "logs_dropped_bytes": facts.logs_dropped_bytes, "worker": self._worker, "pid": self._pid,
            "post_mortem": None,
        }
        if verdict == frames.RETRY:
            outcome["retry_after"] = retry_after
        return verdict, orjson.dumps(outcome)


def _rewritten(returned: Any, error: Exception) -> bytes:
    """What orjson has refused though there is nothing wrong with it. Raises `InvalidResult` where there is."""
    fault = first_fault(returned, "the result")
    if fault is not None:
        raise _not_json(returned, fault) from error
    try:
        return rewritten(returned)
    except (TypeError, ValueError, RecursionError, MemoryError):
        raise _not_json(returned, str(error)) from error


def _not_json(returned: Any, why: str) -> InvalidResult:
    kind = type(returned).__name__
    return InvalidResult(f"the handler returned something that is not JSON, of type {kind}: {why}")


def word_in(error: BaseException) -> BaseException:
    """What an exception says to the engine: itself, or the SoftTimeout, Cancel … that it holds where it is a group.

    Types are asked and not instances: an exception of the user's may claim to be of any class, or raise when asked.
    """
    held = held_by(error)
    for kind in _WORDS:
        for one in held:
            if issubclass(type(one), kind):
                return one
    return error


def _judge(handler: LoadedHandler | None, error: BaseException) -> tuple[bytes, Cause]:
    kind = type(error)
    if handler is None:
        return frames.FAILED, Cause.INVALID_PAYLOAD
    for known, verdict, cause in _JUDGED:
        if issubclass(kind, known):
            return verdict, cause
    if _is_successful_exit(error):
        return frames.FAILED, Cause.RAISED
    return (frames.RAISED if handler.may_retry(error) else frames.FAILED), Cause.RAISED


def _is_successful_exit(error: BaseException) -> bool:
    return type(error) is SystemExit and not error.code


def refused(error: Exception) -> InvalidPayload:
    """The payload's own error, for the outcome."""
    if isinstance(error, InvalidPayload):
        return PayloadRefused(str(error), field=error.field, value=error.value, limit=error.limit)
    return PayloadRefused(f"the payload is not JSON: {message_of(error)}", field="payload")


def message_of(error: BaseException) -> str:
    """str() of an exception, whatever that does."""
    if _is_successful_exit(error):
        return "the handler called sys.exit() with a code for success; it ends in good order by returning"
    try:
        text = str(error)
    except BaseException as another:  # noqa: BLE001  the user's __str__ may raise anything
        text = f"<its __str__ raised {type(another).__name__}>"
    return _clean(text, MESSAGE_CHARS_MAX)


def traceback_of(error: BaseException) -> str | None:
    """The traceback from the user's function on; None for what has no place in the user's code."""
    trace: TracebackType | None = _TRACEBACK.__get__(error)
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_HERE):
        trace = trace.tb_next
    if trace is None:
        return None
    try:
        lines: Sequence[str] = traceback.format_exception(type(error), error, trace)
    except BaseException as another:  # noqa: BLE001  a __str__ or __notes__ of the user's that raises
        lines = [*traceback.format_tb(trace), f"{_kind(error)}: <not printable: {type(another).__name__}>\n"]
    text = "".join(lines)
    if len(text) > TRACEBACK_CHARS_MAX:
        half = TRACEBACK_CHARS_MAX // 2
        text = f"{text[:half]}\n  … {len(text) - 2 * half:,} characters left out …\n{text[-half:]}"
    return _clean(text, len(text))


def _kind(error: BaseException) -> str:
    return "InvalidPayload" if issubclass(type(error), PayloadRefused) else _clean(type(error).__qualname__, 200)


def pause_s(after: Any) -> float | None:
    """What a handler gave as `Retry(after=…)`, in seconds. Raises `InvalidOption` for what is no pause."""
    if after is None:
        return None
    try:
        seconds = float(after.total_seconds() if isinstance(after, timedelta) else after)
    except (TypeError, ValueError, OverflowError):
        seconds = -math.inf
    if isinstance(after, str | bytes) or not 0 <= seconds <= PAUSE_S_MAX:
        limit = f"seconds from 0 to {PAUSE_S_MAX:,.0f}, or a timedelta"
        is_short = isinstance(after, str | bytes | float | timedelta) or (isinstance(after, int) and seconds > -1e15)
        shown = repr(after) if is_short else f"of type {type(after).__name__}"
        raise InvalidOption(f"after of Retry is {_clean(shown, 80)}: it has to be {limit}", field="after",
                            value=_clean(shown, 80), limit=limit)
    return seconds


def _clean(text: str, chars_max: int) -> str:
    """Text that is JSON whatever it was: lone surrogates are replaced, and what is too long is cut."""
    if len(text) > chars_max:
        text = f"{text[:chars_max]}… ({len(text):,} characters)"
    return text.encode("utf-8", "replace").decode("utf-8")
