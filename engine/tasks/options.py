"""The options of a handler and of a submit: their types for type checkers, and the check of each.

The table of options is engine/core/task/options.py. Each check returns the value in its one stored form, or
raises `InvalidOption` that names the field, the value and what would be accepted. Knows neither Redis nor the
settings.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any, TypedDict

from engine.core.task.lifecycle import FINAL
from engine.core.task.names import check_queue_name, did_you_mean
from engine.core.task.options import (
    COUNT_MAX,
    MEMORY_BYTES_MAX,
    MEMORY_BYTES_MIN,
    MEMORY_STEPS_MAX,
    OPTIONS,
    SECONDS_MAX,
    TAGS_MAX,
    TEXT_CHARACTERS_MAX,
    URL_CHARACTERS_MAX,
    Giver,
    Option,
    OptionType,
    given_by,
)
from engine.core.task.priority import TaskPriority
from engine.errors import InvalidOption

Seconds = float | timedelta


class HandlerOptions(TypedDict, total=False):
    """What a handler may ask for. docs/options.md says what each means; None is the same as left out."""

    queue: str
    priority: TaskPriority | str | int
    expires: Seconds | None
    timeout: Seconds | None
    soft_timeout: Seconds | None
    max_retries: int | None
    retry_backoff_s: Seconds | None
    retry_factor: float | None
    retry_backoff_s_max: Seconds | None
    retry_jitter: float | None
    retry_on: type[BaseException] | tuple[type[BaseException], ...] | None
    no_retry_on: type[BaseException] | tuple[type[BaseException], ...]
    retry_on_timeout: bool | None
    max_deliveries: int | None
    max_crashes: int | None
    max_memory: int | str | None
    retry_with_memory: int | str | Iterable[int | str] | None
    max_cpu_seconds: Seconds | None
    max_processes: int | None
    nice: int | None
    preemptible: bool | None
    start_method: str | None
    preload: bool | None
    result_ttl: Seconds | None


class SubmitOptions(TypedDict, total=False):
    """What a submit may say beyond type and payload. docs/options.md says what each means; None is as left out."""

    name: str | None
    queue: str | None
    priority: TaskPriority | str | int | None
    delay: Seconds | None
    expires: Seconds | None
    timeout: Seconds | None
    soft_timeout: Seconds | None
    max_retries: int | None
    max_deliveries: int | None
    idempotency_key: str | None
    fair_key: str | None
    tags: Iterable[str] | None
    max_memory: int | str | None
    max_cpu_seconds: Seconds | None
    max_processes: int | None
    nice: int | None
    result_ttl: Seconds | None
    durability: str | None
    webhook: Mapping[str, Any] | None
    traceparent: str | None


_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,3})?)\s*([KMGTkmgt]?)(?:i?[Bb])?", re.ASCII)
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def shown(value: object, characters_max: int = 80) -> str:
    """Return a short text of any value, for a message. It never raises an exception."""
    try:
        written = repr(value)
    except Exception:  # noqa: BLE001  a user's __repr__; the error that is about to be raised matters more
        written = f"<{type(value).__name__}>"
    return written if len(written) <= characters_max else written[: characters_max - 1] + "…"


def refuse(field: str, value: object, limit: str) -> InvalidOption:
    """Return the error for a value that is not acceptable; `limit` says what would be."""
    return InvalidOption(f"{field} {shown(value)} is not acceptable: it must be {limit}",
                         field=field, value=shown(value), limit=limit)


def text(value: Any, field: str) -> str:
    """Check a line of printable text that is not empty."""
    if isinstance(value, str) and 0 < len(value) <= TEXT_CHARACTERS_MAX and value.isprintable():
        return str(value)
    raise refuse(field, value, f"1 to {TEXT_CHARACTERS_MAX} printable characters")


def priority(value: Any, field: str = "priority") -> TaskPriority:
    """Check a priority: the enum, its number, or its name in any case."""
    if type(value) is TaskPriority:
        return value
    try:
        return TaskPriority.parse(value)
    except (ValueError, TypeError):
        raise refuse(field, value, f"one of {TaskPriority.names()}") from None


def seconds(value: Any, field: str, *, zero: bool = True) -> float:
    """Check a finite number of seconds, or a timedelta. `zero` says whether 0 is acceptable."""
    length_s = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(length_s, (int, float)) and not isinstance(length_s, bool) and 0 <= length_s <= SECONDS_MAX \
            and (zero or length_s > 0):
        return length_s
    raise refuse(field, value, f"a number of seconds {'from' if zero else 'above'} 0 to {SECONDS_MAX:.0f}")


def count(value: Any, field: str, least: int = 0, most: int = COUNT_MAX) -> int:
    """Check a whole number."""
    if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
        return value
    raise refuse(field, value, f"a whole number from {least} to {most}")


def memory(value: Any, field: str) -> int:
    """Check an amount of memory and return its bytes.

    It is a whole number of bytes, or text with a unit: K, M, G or T, each 1,024 of the one before.
    """
    size = value
    if isinstance(value, str) and (found := _SIZE.fullmatch(value.strip())):
        size = int(float(found[1]) * 1024 ** "BKMGT".index((found[2] or "B").upper()))
    if isinstance(size, int) and not isinstance(size, bool) and (size == 0 or MEMORY_BYTES_MIN <= size
                                                                 <= MEMORY_BYTES_MAX):
        return size
    raise refuse(field, value, 'bytes as a whole number or such as "512M" or "2G", at least 1M; or 0')


def memory_steps(value: Any, field: str) -> list[int]:
    """Check amounts of memory, each more than the one before, and return them in bytes."""
    several = [value] if isinstance(value, (int, str)) or not isinstance(value, Iterable) else list(value)
    steps = [memory(step, field) for step in several]
    if not 0 < len(steps) <= MEMORY_STEPS_MAX or 0 in steps or steps != sorted(set(steps)):
        raise refuse(field, value, f"1 to {MEMORY_STEPS_MAX} amounts of memory, each more than the one before")
    return steps


def number(value: Any, field: str, least: float, most: float) -> float:
    """Check a number."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and least <= value <= most:
        return value
    raise refuse(field, value, f"a number from {least:g} to {most:g}")


def tags(value: Any, field: str = "tags") -> list[str]:
    """Check a list of texts, and return each of them once."""
    if isinstance(value, (str, bytes, dict)) or not isinstance(value, Iterable):
        raise refuse(field, value, "a list of texts")
    found = list(dict.fromkeys(text(tag, f"{field}[{index}]") for index, tag in enumerate(value)))
    if len(found) > TAGS_MAX:
        raise refuse(field, value, f"at most {TAGS_MAX} tags")
    return found


def is_traceparent(value: str) -> bool:
    """Whether a text is a W3C trace context."""
    return _TRACEPARENT.fullmatch(value) is not None


def traceparent(value: Any, field: str = "traceparent") -> str:
    """Check a W3C trace context: version, trace id, parent id, flags."""
    if isinstance(value, str) and is_traceparent(value):
        return value
    raise refuse(field, value, "VERSION-TRACE-PARENT-FLAGS in lower hexadecimal digits, 2, 32, 16 and 2 of them")


def webhook(value: Any, field: str = "webhook") -> dict[str, Any]:
    """Check a webhook: `url`, and `on`, the final statuses that are reported (default: all)."""
    if not isinstance(value, Mapping) or not value.keys() <= {"url", "on"}:
        raise refuse(field, value, '{"url": …, "on": […]}')
    url, on = value.get("url"), value.get("on", sorted(FINAL))
    if not isinstance(url, str) or len(url) > URL_CHARACTERS_MAX or not url.startswith(("http://", "https://")) \
            or not url.isprintable() or " " in url:
        raise refuse(f"{field}.url", url, f"an http or https URL of at most {URL_CHARACTERS_MAX} characters")
    if not isinstance(on, list | tuple) or not on or not all(isinstance(end, str) and end in FINAL for end in on):
        raise refuse(f"{field}.on", on, "some of " + ", ".join(sorted(FINAL)))
    return {"url": url, "on": list(on)}


def choice(value: Any, field: str, choices: tuple[str, ...]) -> str:
    """Check that a value is one of some words."""
    if value in choices:
        return str(value)
    raise refuse(field, value, " or ".join(f'"{word}"' for word in choices) if len(choices) > 1
                 else f'"{choices[0]}", or None')


def exceptions(value: Any, field: str) -> tuple[type[BaseException], ...]:
    """Check an exception class, or several."""
    classes = (value,) if isinstance(value, type) else tuple(value) if isinstance(value, (tuple, list, set)) else None
    if classes is None or not all(isinstance(entry, type) and issubclass(entry, BaseException) for entry in classes):
        raise refuse(field, value, "an exception class or a tuple of them")
    return classes


def boolean(value: Any, field: str) -> bool:
    """Check that a value is True or False."""
    if isinstance(value, bool):
        return value
    raise refuse(field, value, "True or False")


def unknown(field: str, known: Iterable[str], what: str) -> InvalidOption:
    """Return the error for an option that `what` does not have; it names the nearest one."""
    names = sorted(known)
    return InvalidOption(f"{what} has no option {shown(field)}{did_you_mean(str(field), names)}",
                         field=str(field), value=shown(field), limit=", ".join(names))


def check_of(option: Option) -> Callable[[Any], Any]:
    """Return the check of one option: a function of the given value that returns its stored form.

    The function raises `InvalidOption`.
    """
    name, least, most = option.name, option.low, option.high
    match option.type:
        case OptionType.TEXT:
            return lambda value: text(value, name)
        case OptionType.QUEUE:
            return lambda value: check_queue_name(value, name)
        case OptionType.PRIORITY:
            return lambda value: priority(value, name)
        case OptionType.SECONDS:
            return lambda value: seconds(value, name, zero=option.may_be_low)
        case OptionType.COUNT:
            return lambda value: count(value, name, int(least), int(most))
        case OptionType.NUMBER:
            return lambda value: number(value, name, least, most)
        case OptionType.BOOLEAN:
            return lambda value: boolean(value, name)
        case OptionType.CHOICE:
            return lambda value: choice(value, name, option.choices)
        case OptionType.MEMORY:
            return lambda value: memory(value, name)
        case OptionType.MEMORY_STEPS:
            return lambda value: memory_steps(value, name)
        case OptionType.TAGS:
            return lambda value: tags(value, name)
        case OptionType.EXCEPTIONS:
            return lambda value: exceptions(value, name)
        case OptionType.TRACEPARENT:
            return lambda value: traceparent(value, name)
        case OptionType.WEBHOOK:
            return lambda value: webhook(value, name)


CHECKS: dict[str, Callable[[Any], Any]] = {name: check_of(option) for name, option in OPTIONS.items()}
HANDLER_CHECKS = {name: CHECKS[name] for name in given_by(Giver.HANDLER)}
SUBMIT_CHECKS = {name: CHECKS[name] for name in given_by(Giver.SUBMIT)}
