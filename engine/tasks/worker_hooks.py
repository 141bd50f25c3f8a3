"""What a worker does once at its start and once at its end: for connections, seeds, models, buffers.

    @on_worker_start
    def connect() -> None:
        global db
        db = psycopg.connect(...)

Registered when the handler modules are imported, called in each worker: at its start before its first run, in the order
of registration; at its end in the opposite order, when it ends in good order (at a drain, or when it is replaced).
A worker that is killed or crashes calls none.
"""

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from engine.errors import InvalidHandler

Hook = TypeVar("Hook", bound=Callable[[], Any])

AT_START: list[Callable[[], Any]] = []
AT_STOP: list[Callable[[], Any]] = []


def on_worker_start(function: Hook) -> Hook:
    """Call `function`, which takes nothing, in each worker before its first run.

    A worker in which it raises runs no task; it is started again after a pause. It may take boot_timeout_s. Returns the
    function. Raises `InvalidHandler` for what cannot be called without arguments.
    """
    return _register(AT_START, function, "on_worker_start")


def on_worker_stop(function: Hook) -> Hook:
    """Call `function`, which takes nothing, in each worker that ends in good order, after its last run.

    All of them together may take worker_stop_s. An exception is logged and changes nothing. Returns the function.
    Raises `InvalidHandler` for what cannot be called without arguments.
    """
    return _register(AT_STOP, function, "on_worker_stop")


def name_of(hook: Callable[[], Any]) -> str:
    """`module:function`."""
    return f"{getattr(hook, '__module__', '?')}:{getattr(hook, '__qualname__', repr(hook))}"


def _register(hooks: list[Callable[[], Any]], function: Hook, decorator: str) -> Hook:
    _refuse_misfit(function, decorator)
    same = [place for place, hook in enumerate(hooks) if name_of(hook) == name_of(function)]
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
    needed = [one.name for one in parameters
              if one.default is one.empty and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]
    if needed:
        raise InvalidHandler(f"{name_of(function)} cannot be a hook of @{decorator}: it is called without arguments, "
                             f"and {needed[0]!r} would get nothing", field="function", value=name_of(function),
                             limit="a function that takes nothing")
