"""Ganger: a task engine for CPU-heavy Python. These are its public names.

They are loaded when first used, so that a worker process, which imports `engine.handler`
and `engine.context`, pays for neither redis nor pydantic.
"""

import importlib
from typing import TYPE_CHECKING, Any

from engine.handler import Handler, handler  # at once: it takes the name of its module over

if TYPE_CHECKING:
    from engine.client import Client
    from engine.context import Context
    from engine.core.lifecycle import TaskStatus
    from engine.core.priority import TaskPriority
    from engine.errors import (
        BrokerDenied,
        BrokerError,
        BrokerFull,
        BrokerReadOnly,
        BrokerTooOld,
        BrokerUnavailable,
        Cancel,
        DurabilityUnavailable,
        EngineError,
        GangerError,
        InvalidHandler,
        InvalidInput,
        InvalidOption,
        InvalidPayload,
        InvalidSetting,
        MoveRefused,
        PayloadTooLarge,
        ResultNotReady,
        Retry,
        SchemaMismatch,
        SoftTimeout,
        TaskCancelled,
        TaskFailed,
        TaskInterrupted,
        TaskNotFound,
        TaskTimedOut,
        UnknownHandler,
    )
    from engine.hooks import on_worker_start, on_worker_stop
    from engine.models import QueueStats, Task, TaskError
    from engine.scheduler import Scheduler, get_scheduler

__version__ = "0.1.0"

_HOMES = {
    "Client": "engine.client",
    "Context": "engine.context",
    "QueueStats": "engine.models",
    "Scheduler": "engine.scheduler",
    "Task": "engine.models",
    "TaskError": "engine.models",
    "TaskPriority": "engine.core.priority",
    "TaskStatus": "engine.core.lifecycle",
    "get_scheduler": "engine.scheduler",
    "on_worker_start": "engine.hooks",
    "on_worker_stop": "engine.hooks",
}

__all__ = [  # noqa: RUF022  by what they are for
    "handler", "Handler", "Context", "on_worker_start", "on_worker_stop",
    "Retry", "Cancel", "SoftTimeout", "TaskInterrupted",
    "Client", "Task", "TaskError", "TaskPriority", "TaskStatus", "QueueStats",
    "Scheduler", "get_scheduler",
    "GangerError", "InvalidInput", "InvalidPayload", "PayloadTooLarge", "InvalidOption", "UnknownHandler",
    "InvalidHandler", "InvalidSetting", "TaskNotFound", "MoveRefused", "TaskFailed", "TaskTimedOut", "TaskCancelled",
    "ResultNotReady", "BrokerError", "BrokerUnavailable", "BrokerFull", "BrokerReadOnly", "BrokerDenied",
    "BrokerTooOld", "SchemaMismatch", "DurabilityUnavailable", "EngineError",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES.get(name, "engine.errors")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
