"""How a setting is declared: its unit, bounds and words, and the types that it may have."""

import os
import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field
from pydantic.config import JsonDict
from pydantic_core import PydanticCustomError

from engine.core.task.names import is_queue_name
from engine.errors import InvalidOption
from engine.tasks.options import memory

DAY_S = 86_400.0
MIB = 1_048_576
WORKERS_MAX = 1024

_MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


def cores() -> int:
    """How many cores this process may use: its CPU affinity, or its container's quota if that is less."""
    allowed = len(os.sched_getaffinity(0))
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(allowed, int(quota) // int(period)))
    except (OSError, ValueError):  # no such file outside a container, "max" where there is no quota
        return allowed


def quarter_of_memory() -> int:
    """In bytes, of the machine."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4


def setting(default: Any, text: str, *, low: float | None = None, high: float | None = None, unit: str = "",
            limit: str = "", shown: str = "", factory: Any = None) -> Any:
    """A field with what its documentation and its error messages need.

    `limit` says in words what is acceptable where bounds do not; `shown` is an example value in TOML
    for a default that TOML cannot write.
    """
    extra: JsonDict = {"unit": unit, "limit": limit, "shown": shown}
    start: dict[str, Any] = {"default_factory": factory} if factory else {"default": default}
    return Field(**start, ge=low, le=high, description=text, json_schema_extra=extra)


def _no_bool(value: Any) -> Any:
    """`max_workers = true` is a slip, not a one."""
    if isinstance(value, bool):
        raise PydanticCustomError("no_bool", "a number, not true or false")
    return value


def _size(value: Any) -> Any:
    """Text with a unit becomes bytes."""
    try:
        return memory(value, "size") if isinstance(value, str) else _no_bool(value)
    except InvalidOption:
        return value  # perhaps a number as text; else refused as one


def _module(value: str) -> str:
    if not _MODULE.fullmatch(value) or value.endswith(".py"):
        raise PydanticCustomError("module", "not a module name")
    return value


def _served_queue(value: str) -> str:
    if value != "*" and not is_queue_name(value):
        raise PydanticCustomError("queue", "not a queue name")
    return value


Count = Annotated[int, BeforeValidator(_no_bool)]
Number = Annotated[float, BeforeValidator(_no_bool)]
Size = Annotated[int, BeforeValidator(_size)]
Module = Annotated[str, AfterValidator(_module)]
ServedQueue = Annotated[str, AfterValidator(_served_queue)]

STRICT = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def disagreement(name: str, value: float, limit: str) -> PydanticCustomError:
    return PydanticCustomError("disagreement", "settings that contradict each other",
                               {"name": name, "value": value, "limit": limit})
