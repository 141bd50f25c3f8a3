"""What the options of a handler or a submit may be: one function per kind of option.

Each returns the value in its one stored form, or raises `InvalidOption` that names the
field, what came and what would be accepted. Knows neither Redis nor the settings.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any, TypedDict

from engine.core.task.lifecycle import FINAL
from engine.core.task.limits import MEMORY_BYTES_MAX, NICE_MAX
from engine.core.task.names import check_queue_name, did_you_mean
from engine.core.task.priority import TaskPriority
from engine.core.worker.start_method import METHODS
from engine.errors import InvalidOption

Seconds = float | timedelta


class HandlerOptions(TypedDict, total=False):
    """What a handler may ask for. Times in seconds; None, as what is left out, means: as the engine's settings say."""

    queue: str
    priority: TaskPriority | str | int
    timeout: Seconds | None  # of one run, until it is killed; 0: never
    soft_timeout: Seconds | None  # of one run, until SoftTimeout is raised inside it; 0: never
    max_retries: int | None
    retry_backoff_s: Seconds | None
    retry_factor: float | None
    retry_backoff_s_max: Seconds | None
    retry_jitter: float | None  # share of the pause that is left to chance, 0 to 1
    retry_on: type[BaseException] | tuple[type[BaseException], ...] | None  # default: every Exception
    no_retry_on: type[BaseException] | tuple[type[BaseException], ...]
    retry_on_timeout: bool | None  # default: a run that hit its timeout is not tried again
    max_deliveries: int | None  # 1: never again when a run's fate is unknown
    max_crashes: int | None
    max_memory: int | str | None  # of a run with all that it starts, in bytes or such as "512M"; 0: as much as there is
    max_cpu_seconds: Seconds | None  # of a run with all that it starts; 0: no limit
    max_processes: int | None  # of a run, its worker included; 0: no limit
    nice: int | None  # 0 to 19: how far it steps back from the processor for others
    preemptible: bool | None  # False: its runs never stand still so that an urgent one can have their place
    retry_with_memory: int | str | Iterable[int | str] | None  # max_memory of the runs after a crash, one by one
    start_method: str | None  # "fork" or "spawn": runs only in a pool whose workers come to be like that
    preload: bool | None  # False: runs only in a pool whose workers import the handlers themselves
    result_ttl: Seconds | None  # how long a completed task is kept
    expires: Seconds | None  # since its submit, after which a task is not started any more


NAME_MAX = 200  # characters of a handler's name, a fair key, an idempotency key and a task's own name
TAGS_MAX = 32
SECONDS_MAX = 3_155_760_000.0  # a hundred years: beyond it a sum of milliseconds leaves what a float keeps exactly
COUNT_MAX = 1_000_000_000
URL_MAX = 2048
MEMORY_BYTES_MIN = 1_048_576
LADDER_MAX = 10
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,3})?)\s*([KMGTkmgt]?)(?:i?[Bb])?", re.ASCII)
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def shown(value: object, characters_max: int = 80) -> str:
    """A short text of any value, for a message; never raises."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001  somebody's __repr__; the error we are about to raise matters more
        text = f"<{type(value).__name__}>"
    return text if len(text) <= characters_max else text[: characters_max - 1] + "…"


def refuse(field: str, value: object, limit: str) -> InvalidOption:
    return InvalidOption(f"{field} {shown(value)} is not acceptable: it must be {limit}",
                         field=field, value=shown(value), limit=limit)


def text(value: Any, field: str) -> str:
    """A non-empty line of printable text of at most NAME_MAX characters."""
    if isinstance(value, str) and 0 < len(value) <= NAME_MAX and value.isprintable():
        return str(value)
    raise refuse(field, value, f"1 to {NAME_MAX} printable characters")


def priority(value: Any, field: str = "priority") -> TaskPriority:
    if type(value) is TaskPriority:
        return value
    try:
        return TaskPriority.parse(value)
    except (ValueError, TypeError):
        raise refuse(field, value, f"one of {TaskPriority.names()}") from None


def seconds(value: Any, field: str, *, zero: bool = True) -> float:
    """A finite number of seconds, or a timedelta; `zero` says whether 0 is one."""
    number = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(number, (int, float)) and not isinstance(number, bool) and 0 <= number <= SECONDS_MAX \
            and (zero or number > 0):
        return number
    raise refuse(field, value, f"a number of seconds {'from' if zero else 'above'} 0 to {SECONDS_MAX:.0f}")


def count(value: Any, field: str, least: int = 0) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and least <= value <= COUNT_MAX:
        return value
    raise refuse(field, value, f"a whole number from {least} to {COUNT_MAX}")


def memory(value: Any, field: str) -> int:
    """Bytes, as a whole number or as text with a unit: K, M, G or T, each 1,024 of the one before; 0 is no limit."""
    size = value
    if isinstance(value, str) and (found := _SIZE.fullmatch(value.strip())):
        size = int(float(found[1]) * 1024 ** "BKMGT".index((found[2] or "B").upper()))
    if isinstance(size, int) and not isinstance(size, bool) and (size == 0 or MEMORY_BYTES_MIN <= size
                                                                 <= MEMORY_BYTES_MAX):
        return size
    raise refuse(field, value, 'bytes as a whole number or such as "512M" or "2G", at least 1M; or 0')


def ladder(value: Any, field: str) -> list[int]:
    """Amounts of memory, each more than the one before."""
    several = [value] if isinstance(value, (int, str)) or not isinstance(value, Iterable) else list(value)
    rungs = [memory(one, field) for one in several]
    if not 0 < len(rungs) <= LADDER_MAX or 0 in rungs or rungs != sorted(set(rungs)):
        raise refuse(field, value, f"1 to {LADDER_MAX} amounts of memory, each more than the one before")
    return rungs


def nice(value: Any, field: str = "nice") -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= NICE_MAX:
        return value
    raise refuse(field, value, f"a whole number from 0 to {NICE_MAX}")


def factor(value: Any, field: str, least: float, most: float) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and least <= value <= most:
        return value
    raise refuse(field, value, f"a number from {least:g} to {most:g}")


def tags(value: Any, field: str = "tags") -> list[str]:
    """A list of distinct short texts."""
    if isinstance(value, (str, bytes, dict)) or not isinstance(value, Iterable):
        raise refuse(field, value, "a list of texts")
    found = list(dict.fromkeys(text(tag, f"{field}[{index}]") for index, tag in enumerate(value)))
    if len(found) > TAGS_MAX:
        raise refuse(field, value, f"at most {TAGS_MAX} tags")
    return found


def is_traceparent(value: str) -> bool:
    return _TRACEPARENT.fullmatch(value) is not None


def traceparent(value: Any, field: str = "traceparent") -> str:
    """A W3C trace context: version, trace id, parent id, flags."""
    if isinstance(value, str) and is_traceparent(value):
        return value
    raise refuse(field, value, "VERSION-TRACE-PARENT-FLAGS in lower hexadecimal digits, 2, 32, 16 and 2 of them")


def webhook(value: Any, field: str = "webhook") -> dict[str, Any]:
    """Where to tell of a task's end: `url`, and `on`, the final statuses to tell of (default: all)."""
    if not isinstance(value, Mapping) or not value.keys() <= {"url", "on"}:
        raise refuse(field, value, '{"url": …, "on": […]}')
    url, on = value.get("url"), value.get("on", sorted(FINAL))
    if not isinstance(url, str) or len(url) > URL_MAX or not url.startswith(("http://", "https://")) \
            or not url.isprintable() or " " in url:
        raise refuse(f"{field}.url", url, f"an http or https URL of at most {URL_MAX} characters")
    if not isinstance(on, list | tuple) or not on or not all(isinstance(end, str) and end in FINAL for end in on):
        raise refuse(f"{field}.on", on, "some of " + ", ".join(sorted(FINAL)))
    return {"url": url, "on": list(on)}


def durability(value: Any, field: str = "durability") -> str:
    """How sure a submit is to be before it returns; None stands for "in Redis's memory"."""
    if value == "fsync":
        return "fsync"
    raise refuse(field, value, '"fsync", or None')


def exceptions(value: Any, field: str) -> tuple[type[BaseException], ...]:
    """Exception classes, one or several."""
    classes = (value,) if isinstance(value, type) else tuple(value) if isinstance(value, (tuple, list, set)) else None
    if classes is None or not all(isinstance(one, type) and issubclass(one, BaseException) for one in classes):
        raise refuse(field, value, "an exception class or a tuple of them")
    return classes


def flag(value: Any, field: str) -> bool:
    if isinstance(value, bool):
        return value
    raise refuse(field, value, "True or False")


def start_method(value: Any, field: str = "start_method") -> str:
    """How the workers come to be that may run a handler."""
    if value in METHODS:
        return str(value)
    raise refuse(field, value, '"fork" or "spawn"')


def unknown(field: str, known: Iterable[str], what: str) -> InvalidOption:
    names = sorted(known)
    return InvalidOption(f"{what} has no option {shown(field)}{did_you_mean(str(field), names)}",
                         field=str(field), value=shown(field), limit=", ".join(names))


OF_HANDLER: dict[str, Callable[[Any], Any]] = {
    "queue": check_queue_name,
    "priority": priority,
    "timeout": lambda value: seconds(value, "timeout"),
    "soft_timeout": lambda value: seconds(value, "soft_timeout"),
    "max_retries": lambda value: count(value, "max_retries"),
    "retry_backoff_s": lambda value: seconds(value, "retry_backoff_s"),
    "retry_factor": lambda value: factor(value, "retry_factor", 1, 1000),
    "retry_backoff_s_max": lambda value: seconds(value, "retry_backoff_s_max"),
    "retry_jitter": lambda value: factor(value, "retry_jitter", 0, 1),
    "retry_on": lambda value: exceptions(value, "retry_on"),
    "no_retry_on": lambda value: exceptions(value, "no_retry_on"),
    "retry_on_timeout": lambda value: flag(value, "retry_on_timeout"),
    "max_deliveries": lambda value: count(value, "max_deliveries", 1),
    "max_crashes": lambda value: count(value, "max_crashes"),
    "max_memory": lambda value: memory(value, "max_memory"),
    "max_cpu_seconds": lambda value: seconds(value, "max_cpu_seconds"),
    "max_processes": lambda value: count(value, "max_processes"),
    "nice": nice,
    "preemptible": lambda value: flag(value, "preemptible"),
    "retry_with_memory": lambda value: ladder(value, "retry_with_memory"),
    "start_method": start_method,
    "preload": lambda value: flag(value, "preload"),
    "result_ttl": lambda value: seconds(value, "result_ttl"),
    "expires": lambda value: seconds(value, "expires", zero=False),
}
"""What a handler may ask for, and the check of each."""
