"""Hooks of workers, called once at the start and once at the end: for connections, seeds, models, buffers.

    @on_worker_start
    def connect() -> None:
        global db
        db = psycopg.connect(...)

Hooks are registered when the handler modules are imported, and called in each worker: before its first run in the order
of registration, after its last run in the opposite order. A worker that is killed or crashes calls no hook at its end.
"""

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from engine.errors import InvalidHandler

Hook = TypeVar("Hook", bound=Callable[[], Any])

AT_START: list[Callable[[], Any]] = []
AT_STOP: list[Callable[[], Any]] = []


def on_worker_start(function: Hook) -> Hook:
    """Call a function in each worker before its first run.

    If the function raises an exception, the worker runs no task, and another is started after a pause. The function may
    take `boot_timeout_s` seconds.

    Args:
        function: a function that takes no arguments.

    Returns the function. Raises `InvalidHandler` if it cannot be called without arguments.
    """
    return _register(AT_START, function, "on_worker_start")


def on_worker_stop(function: Hook) -> Hook:
    """Call a function after the last run of each worker that ends at a drain or is replaced.

    All these functions together may take `worker_stop_s` seconds. An exception is logged and changes nothing.

    Args:
        function: a function that takes no arguments.

    Returns the function. Raises `InvalidHandler` if it cannot be called without arguments.
    """
    return _register(AT_STOP, function, "on_worker_stop")


def name_of(hook: Callable[[], Any]) -> str:
    """Return the name of a hook for messages: `module:function`."""
    return f"{getattr(hook, '__module__', '?')}:{getattr(hook, '__qualname__', repr(hook))}"


def _register(hooks: list[Callable[[], Any]], function: Hook, decorator: str) -> Hook:
    _refuse_misfit(function, decorator)
    same = [index for index, hook in enumerate(hooks) if name_of(hook) == name_of(function)]
    if same:  # the module is imported again, under the same name
        hooks[same[0]] = function
    else:
        hooks.append(function)
    return function


def _refuse_misfit(function: Any, decorator: str) -> None:
    if not callable(function):
        raise InvalidHandler(f"@{decorator} takes a function, not {function!r}: write it without brackets",
                             field="function", value=repr(function), limit="a function")
    if inspect.iscoroutinefunction(function):
        raise InvalidHandler(f"{name_of(function)} cannot be a hook of @{decorator}: it is `async`, and a worker runs "
                             "plain functions. Make it a `def` that calls asyncio.run(...)", field="function",
                             value=name_of(function), limit="a plain function")
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # some functions written in C have none
        return
    needed = [parameter.name for parameter in parameters if parameter.default is parameter.empty
              and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)]
    if needed:
        raise InvalidHandler(f"{name_of(function)} cannot be a hook of @{decorator}: it is called without arguments, "
                             f"and {needed[0]!r} would get nothing", field="function", value=name_of(function),
                             limit="a function that takes nothing")
