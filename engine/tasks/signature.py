"""Reads from a function's signature what a handler takes, and whether another process can find the function.

Nothing is called and nothing is imported. Each error says why, and what to do instead.
"""

import inspect
import sys
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass, is_dataclass
from typing import Any

from engine.errors import InvalidHandler
from engine.tasks.options import shown

_CONTEXT_NAMES = ("ctx", "context")
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


@dataclass(frozen=True, slots=True)
class Signature:
    """What a function takes. `payload_model` is the annotation of the payload, if it names a model."""

    takes_payload: bool
    wants_context: bool
    payload_model: Any


def read_signature(function: Callable[..., Any], name: str) -> Signature:
    """Find payload and context among the parameters of the handler `name`.

    Raises `InvalidHandler` for a parameter that would get nothing.
    """
    own = _whose_parameters(function)
    try:
        parameters = _parameters(own)
    except (TypeError, ValueError):  # some functions written in C have none
        return Signature(takes_payload=True, wants_context=False, payload_model=None)
    hints = {parameter.name: _hint(own, parameter, name) for parameter in parameters if parameter.kind in _POSITIONAL}
    taken = [parameter for parameter in parameters if parameter.kind in _POSITIONAL]
    variadic = any(parameter.kind is inspect.Parameter.VAR_POSITIONAL for parameter in parameters)
    for parameter in parameters:
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and parameter.default is parameter.empty:
            raise _misfit(own, name, f"{parameter.name!r} can only be given by keyword")
        if parameter.kind is inspect.Parameter.VAR_KEYWORD and not (taken or variadic):
            raise _misfit(own, name, f"'**{parameter.name}' would get nothing, since the payload is one argument")
    if taken and _is_context(taken[0], hints):
        return Signature(takes_payload=False, wants_context=True, payload_model=None)
    wants_context = len(taken) > 1 and _is_context(taken[1], hints)
    for extra in taken[2 if wants_context else 1:]:
        if extra.default is extra.empty:
            raise _misfit(own, name, f"{extra.name!r} would get nothing")
    hint = hints.get(taken[0].name) if taken else None
    return Signature(bool(taken) or variadic, wants_context, hint if is_model(hint) else None)


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    return list(inspect.signature(function, follow_wrapped=False).parameters.values())


def _whose_parameters(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function whose parameters count: a decorated one has those of its wrapper, unless that takes anything."""
    try:
        while hasattr(function, "__wrapped__") and all(
                parameter.kind in _VARIADIC for parameter in _parameters(function)):
            function = function.__wrapped__
    except (TypeError, ValueError):  # written in C
        pass
    return function


def is_model(hint: Any) -> bool:
    """Whether an annotation is, or contains, a pydantic model or a dataclass."""
    if isinstance(hint, type) and not isinstance(hint, types.GenericAlias):
        pydantic = sys.modules.get("pydantic")  # code that defines a model has imported it
        return is_dataclass(hint) or (pydantic is not None and issubclass(hint, pydantic.BaseModel))
    return any(is_model(argument) for argument in typing.get_args(hint))


def refuse_unreachable(function: Callable[..., Any], name: str) -> None:
    """Raise `InvalidHandler` for a function that another process cannot find by module and name."""
    qualname = function.__qualname__
    if "<lambda>" in qualname:
        raise _unreachable(name, qualname, "it is a lambda, and a lambda has no name by which a worker process could "
                           "find it", "write it as a `def` at the top level of a module")
    if "<locals>" in qualname:
        outer = qualname.partition(".<locals>")[0]
        raise _unreachable(name, qualname, f"it is defined inside {outer}(), where a worker process cannot reach it "
                           "(nor what it closes over)", "move it to the top level of its module and pass what it "
                           f"needs in the payload; or, if {outer} is a decorator, write @functools.wraps(…) above the "
                           "function that it returns")
    if "." in qualname:
        raise _unreachable(name, qualname, "it is defined inside a class", "move it to the top level of its module")
    if function.__module__ == "__main__" and main_file() is None:
        raise _unreachable(name, qualname, "it was typed into an interactive session, or came by `python -c` or "
                           "standard input: there is no file from which a worker process could load it",
                           "put it into a file and import it, or run that file as the script")


def main_file() -> str | None:
    """Return the file of the running script; None for an interactive session, `python -c` and standard input."""
    file: str | None = getattr(sys.modules.get("__main__"), "__file__", None)
    return None if file is None or file.startswith("<") else file


def nearest_field(error: Exception) -> tuple[str, str, str]:
    """Return field, value and problem of the first item of a pydantic ValidationError, or of any other error."""
    problems: list[dict[str, Any]] = error.errors() if hasattr(error, "errors") else []
    if not problems:
        return "payload", "", f"{type(error).__name__}: {error}"
    first = problems[0]
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    value = first.get("input")
    found = f", but it is not in {shown(value)}" if first["type"].startswith("missing") else (
        f", not {type(value).__name__} {shown(value)}")
    return f"payload{path}", shown(value), f"{first['msg']}{found}{more}"


def refuse_not_a_function(function: Any, name: str) -> None:
    """Raise `InvalidHandler` for a method, a class, a coroutine, a generator or any other object."""
    if isinstance(function, types.FunctionType):
        code = function.__code__
        if code.co_flags & (inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR):
            raise _unreachable(name, function.__qualname__, "it is `async`, and a worker process runs plain functions",
                               "make it a `def` that calls asyncio.run(…)")
        if code.co_flags & inspect.CO_GENERATOR:
            raise _unreachable(name, function.__qualname__, "it is a generator, which returns before it has done "
                               "anything", "return a list, or report with ctx.progress")
        return
    if isinstance(function, types.BuiltinFunctionType) and isinstance(function.__self__, types.ModuleType):
        return
    if isinstance(function, (types.MethodType, types.BuiltinFunctionType)):
        raise _unreachable(name, getattr(function, "__qualname__", shown(function)), "it is a method, bound to an "
                           "object that exists in this process only", "write a function at the top level of a module "
                           "that makes or looks up the object")
    raise _unreachable(name, shown(function), f"it is a {type(function).__name__}, not a function",
                       "wrap it in a `def` at the top level of a module")


def _hint(function: Callable[..., Any], parameter: inspect.Parameter, name: str) -> Any:
    """The annotation of one parameter as an object, not as text."""
    annotation = parameter.annotation
    if annotation is parameter.empty or not _has_text(annotation):
        return annotation
    if isinstance(annotation, str) and annotation.strip("'\"").rpartition(".")[2] == "Context":
        return annotation  # commonly imported for the type checker only
    holder = types.SimpleNamespace(__annotations__={parameter.name: annotation})
    # functools.wraps gives a wrapper the annotations of the function below it, whose names are those of its own module.
    names = {**getattr(function, "__globals__", {}), **getattr(inspect.unwrap(function), "__globals__", {})}
    try:
        return typing.get_type_hints(holder, globalns=names, include_extras=True)[parameter.name]
    except Exception as error:
        raise InvalidHandler(
            f"handler {name!r}: the annotation {shown(annotation)} of {parameter.name!r} cannot be read ({error}): "
            "the model has to be defined or imported at the top level of the module, above the handler, and not under "
            "TYPE_CHECKING", field=parameter.name, value=shown(annotation), limit="a name at module level") from error


def _has_text(annotation: Any) -> bool:
    return isinstance(annotation, (str, typing.ForwardRef)) or any(map(_has_text, typing.get_args(annotation)))


def _is_context(parameter: inspect.Parameter, hints: dict[str, Any]) -> bool:
    hint = hints[parameter.name]
    if isinstance(hint, str):
        return True
    if hint is parameter.empty:
        return parameter.name in _CONTEXT_NAMES
    return any((kind.__module__, kind.__name__) == ("engine.tasks.context", "Context")
               for kind in (hint, *typing.get_args(hint)) if isinstance(kind, type))


def _misfit(function: Callable[..., Any], name: str, problem: str) -> InvalidHandler:
    signature = inspect.signature(function, follow_wrapped=False)
    return InvalidHandler(f"handler {name!r} cannot call {function.__qualname__}{signature}: "
                          f"{problem}; a handler takes the payload and, if it wants one, a Context second",
                          field="function", value=function.__qualname__, limit="(payload) or (payload, ctx: Context)")


def _unreachable(name: str, what: str, why: str, remedy: str) -> InvalidHandler:
    return InvalidHandler(f"{what} cannot be the handler {name!r}: {why}. Instead, {remedy}.",
                          field="function", value=what, limit=remedy)
