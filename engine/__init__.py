"""Ganger: a task engine for CPU-heavy Python. These are its public names.

They are loaded when first used, so that a worker process, which imports `engine.tasks.handler`
and `engine.tasks.context`, pays for neither redis nor pydantic.
"""

import importlib
from typing import TYPE_CHECKING, Any

from engine.tasks.handler import Handler, handler  # at once: it takes the name of its module over

if TYPE_CHECKING:
    from engine.client import Client
    from engine.client.models import QueueStats, Task, TaskError
    from engine.core.task.lifecycle import TaskStatus
    from engine.core.task.priority import TaskPriority
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
    from engine.scheduler import Scheduler, get_scheduler
    from engine.tasks.context import Context
    from engine.tasks.worker_hooks import on_worker_start, on_worker_stop

__version__ = "0.1.0"

_HOMES = {
    "Client": "engine.client",
    "Context": "engine.tasks.context",
    "QueueStats": "engine.client.models",
    "Scheduler": "engine.scheduler",
    "Task": "engine.client.models",
    "TaskError": "engine.client.models",
    "TaskPriority": "engine.core.task.priority",
    "TaskStatus": "engine.core.task.lifecycle",
    "get_scheduler": "engine.scheduler",
    "on_worker_start": "engine.tasks.worker_hooks",
    "on_worker_stop": "engine.tasks.worker_hooks",
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


def _default_client() -> Any:
    return importlib.import_module("engine.client").default_client()


Handler.default_client = _default_client


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES.get(name, "engine.errors")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
