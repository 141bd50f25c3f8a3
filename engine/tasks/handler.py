"""Handlers: the user's functions, registered by the name that tasks call them by.

    @handler("thumbnail", queue="images", timeout=30)
    def thumbnail(payload: ThumbnailRequest, ctx: Context) -> dict: ...

A worker imports this file, so it imports little: no redis, no settings, and pydantic
only where a handler's own annotation is a model. What a handler asks for is read from
its signature once, here; whoever runs it needs `spec.parse(payload)` and `spec.arguments(…)`.
"""

import importlib
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, update_wrapper
from typing import Any, Generic, ParamSpec, TypeVar, Unpack, cast

import orjson

from engine.core.task.priority import TaskPriority
from engine.errors import InvalidHandler, InvalidPayload, held_by
from engine.tasks import options as check
from engine.tasks.import_guard import MainCollected, resume_stopped
from engine.tasks.options import HandlerOptions
from engine.tasks.signature import Signature, nearest_field, read_signature, refuse_not_a_function, refuse_unreachable

NO_PAYLOAD: dict[str, Any] = {}  # what a task gets that was submitted without one

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class HandlerSpec:
    """One handler and what it asks for.

    `options` holds the options that were given, checked, by their names; what is not in it is as the settings say.
    `payload_model` is the annotation of the payload where it names a model.
    """

    name: str
    function: Callable[..., Any]
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    payload_model: Any = None
    wants_context: bool = False
    takes_payload: bool = True

    # A submit reads these four of each handler, so they are read from the options once.

    @cached_property
    def queue(self) -> str:
        return str(self.options.get("queue", "default"))

    @cached_property
    def priority(self) -> TaskPriority:
        return cast(TaskPriority, self.options.get("priority", TaskPriority.NORMAL))

    @cached_property
    def expires(self) -> float | None:
        """Seconds after a submit; no run of the task is started later."""
        return self.options.get("expires")

    @cached_property
    def max_deliveries(self) -> int | None:
        return self.options.get("max_deliveries")

    @property
    def retry_on(self) -> tuple[type[BaseException], ...] | None:
        """The exceptions after which a task is retried; None: every Exception."""
        return self.options.get("retry_on")

    @property
    def no_retry_on(self) -> tuple[type[BaseException], ...]:
        """The exceptions after which a task is never retried."""
        return cast(tuple[type[BaseException], ...], self.options.get("no_retry_on", ()))

    @cached_property
    def reference(self) -> str:
        """`module:qualname`, by which another process finds the function."""
        module = self.function.__module__
        return f"{'__main__' if module == '__mp_main__' else module}:{self.function.__qualname__}"

    def announcement(self) -> dict[str, Any]:
        """What a pool tells the world about this handler: JSON values, only what was given."""
        told: dict[str, Any] = {"name": self.name, "function": self.reference}
        about = (self.function.__doc__ or "").strip().partition("\n")[0]
        if about:
            told["about"] = about
        told.update(self.plain_options())
        return told

    def plain_options(self) -> dict[str, Any]:
        """The options that were given as JSON values, and the queue and the priority in any case."""
        given = {"queue": self.queue, "priority": self.priority, **self.options}
        return {name: _plain(value) for name, value in given.items() if value != ()}

    def may_retry(self, error: BaseException) -> bool:
        """Whether an exception that left the function allows another run at all; of a group, each one in it counts."""
        held = held_by(error)
        if any(issubclass(type(one), self.no_retry_on) for one in held):
            return False
        return any(issubclass(type(one), self.retry_on or Exception) for one in held)

    def parse(self, payload: bytes) -> Any:
        """Turn a payload's JSON into what the function takes: plain values, or its model.

        Raises `InvalidPayload` that names the field, where the model refuses it.
        """
        if self.payload_model is None:
            return orjson.loads(payload)
        try:
            return self._read_model(payload)
        except Exception as error:  # a model's validators are the user's code; each way to fail is a refusal
            raise self._refusal(error) from error

    def arguments(self, payload: Any, context: Any) -> tuple[Any, ...]:
        """The positional arguments of the call."""
        given = (payload,) if self.takes_payload else ()
        return (*given, context) if self.wants_context else given

    @cached_property
    def _read_model(self) -> Callable[[bytes], Any]:
        direct = getattr(self.payload_model, "model_validate_json", None)
        if direct is not None:
            return cast(Callable[[bytes], Any], direct)
        from pydantic import TypeAdapter  # only for dataclasses, unions and lists of models

        return TypeAdapter(self.payload_model).validate_json

    def _refusal(self, error: Exception) -> InvalidPayload:
        field, value, problem = nearest_field(error)
        model = getattr(self.payload_model, "__name__", str(self.payload_model))
        return InvalidPayload(f"{field} of task type {self.name!r} is not what {model} asks for: {problem}",
                              field=field, value=value, limit=problem)


_STOPS_MAX = 20  # modules of one package that use the engine

REGISTRY: dict[str, HandlerSpec] = {}
"""Every handler registered in this process, by name."""


_FIELDS: Any = object()  # the payload was not given whole


class Handler(Generic[P, R]):
    """A registered function: calling it stays a plain call, `submit` sends it to the workers."""

    def __init__(self, spec: HandlerSpec, function: Callable[P, R]) -> None:
        self.spec = spec
        self._function = function
        update_wrapper(self, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._function(*args, **kwargs)

    def submit(self, payload: Any = _FIELDS, /, **fields: Any) -> str:
        """Submit a task through the default client; return its id.

        Its payload is given whole, `f.submit({"id": 7})`, or by its fields, `f.submit(id=7)`. Raises what
        `Client.submit` raises, and `InvalidPayload` where both are given.
        """
        if payload is not _FIELDS and fields:
            raise InvalidPayload(f"{self.spec.name!r} was given a payload and the field {next(iter(fields))!r}: give "
                                 "the payload whole or by its fields; options go to submit_with", field="payload",
                                 value=check.shown(payload), limit="one of the two")
        return self.submit_with(fields if payload is _FIELDS else payload)

    def submit_with(self, payload: Any = NO_PAYLOAD, /, **options: Any) -> str:
        """Submit a task with any payload ({} if there is none) and the options of `Client.submit`; return its id."""
        from engine.client import default_client  # late: a worker that only runs handlers needs no redis

        return str(default_client().submit(self.spec.name, payload, **options))

    def __repr__(self) -> str:
        return f"<Handler {self.spec.name!r}: {self.spec.reference}>"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled by name, as functions are, so that multiprocessing can be given one."""
        return _handler_of, (self.spec.reference, self.spec.name)


def _handler_of(reference: str, name: str) -> Handler[..., Any]:
    """The handler `name`, in a process that may have to import its module first."""
    found = resolve(reference)
    if isinstance(found, Handler) and found.spec.name == name:
        return found
    spec = REGISTRY.get(name)
    return Handler(spec, spec.function) if spec is not None else Handler(make_spec(name, found, {}), found)


def handler(name: str, **options: Unpack[HandlerOptions]) -> Callable[[Callable[P, R]], Handler[P, R]]:
    """Register the decorated function under `name`.

    Options, times in seconds: queue, priority, timeout, soft_timeout, max_retries, retry_backoff_s, retry_factor,
    retry_backoff_s_max, retry_jitter, retry_on, no_retry_on, retry_on_timeout, max_deliveries, max_crashes,
    max_memory (bytes, or text such as "512M"), max_cpu_seconds, max_processes, nice, preemptible,
    retry_with_memory, start_method, preload, result_ttl, expires. What is left out is as the engine's settings say.

    The function takes the payload first and, if it wants one, a Context second. A payload annotated with a pydantic
    model (or a dataclass) arrives as one.

    Raises `InvalidOption` for an option that is unknown or out of bounds and `InvalidHandler` for a function that
    another process could not find by its name, or whose signature does not fit.
    """
    if not isinstance(name, str):
        raise InvalidHandler(f"@handler needs the task type as its first argument, not {check.shown(name)}: "
                             "write @handler(\"thumbnail\")", field="name", value=check.shown(name), limit="a name")

    def decorate(function: Callable[P, R]) -> Handler[P, R]:
        return Handler(register(name, function, **options), function)

    return decorate


def register(name: str, function: Callable[..., Any], **options: Unpack[HandlerOptions]) -> HandlerSpec:
    """Register a function under `name`, as the decorator does; return its spec.

    Naming the same function again replaces its options. Raises as `handler` does, and `InvalidHandler`
    for a name that another function has.
    """
    spec = make_spec(name, function, options)
    earlier = REGISTRY.get(name)
    if earlier is not None and not _same_code(earlier.function, spec.function):
        raise InvalidHandler(f"task type {name!r} is already the name of {earlier.reference}, so it cannot also be "
                             f"that of {spec.reference}: choose another name", field="name", value=name,
                             limit="a name of its own")
    REGISTRY[name] = spec
    return spec


def make_spec(name: str, function: Callable[..., Any], options: Mapping[str, Any], *,
              local: bool = False) -> HandlerSpec:
    """Check name, options and signature; register nothing. Raises `InvalidOption` and `InvalidHandler`.

    `local`: it will run in this process, so that no other one has to find it by name.
    """
    check.text(name, "name")
    if isinstance(function, Handler):
        options = {**function.spec.options, **options}
        function = function.spec.function
    refuse_not_a_function(function, name)
    if not local:
        refuse_unreachable(function, name)
    checked = {}
    for option, value in options.items():
        if option not in check.HANDLER_CHECKS:
            raise check.unknown(option, check.HANDLER_CHECKS, f"handler {name!r}")
        if value is not None:
            checked[option] = check.HANDLER_CHECKS[option](value)
    _check_ladder(checked)
    signature: Signature = read_signature(function, name)
    return HandlerSpec(name, function, checked, payload_model=signature.payload_model,
                       wants_context=signature.wants_context, takes_payload=signature.takes_payload)


def _check_ladder(checked: Mapping[str, Any]) -> None:
    """More memory after a crash only makes sense where the first run has a limit, and a lower one."""
    ladder, first = checked.get("retry_with_memory"), checked.get("max_memory")
    if ladder and not 0 < (first or 0) < ladder[0]:
        raise check.refuse("retry_with_memory", ladder, f"more than max_memory, which is {first or 'not set'}")


def resolve(reference: str) -> Any:
    """Import what `module:qualname` names.

    Raises `InvalidHandler` where there is no such name; what the module raises while it is imported passes through.
    """
    module_name, colon, qualname = reference.partition(":")
    if not (module_name and colon and qualname):
        raise InvalidHandler(f"{reference!r} is not of the form module:function", field="reference", value=reference,
                             limit="module:function")
    found: Any = sys.modules.get(module_name) or importlib.import_module(module_name)
    for part in qualname.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise InvalidHandler(f"module {module_name!r} has no {qualname!r}: a handler has to be defined at the top "
                                 "level of its module (above scheduler.start() and any use of a Client, and not "
                                 "below `if __name__ == \"__main__\"`)", field="reference", value=reference,
                                 limit="a name at module level") from None
    return found


def directions(spec: HandlerSpec) -> str:
    """A handler as one line from which `register_all` makes it again elsewhere: `module:qualname {options as JSON}`."""
    return f"{spec.reference} {orjson.dumps(spec.plain_options()).decode()}"


def register_all(functions: Mapping[str, str]) -> dict[str, str]:
    """Register handlers from `module:qualname`, or from `directions`; return the tracebacks of failures by name.

    A name that the import itself registers (a decorator, a re-executed script) keeps the options it has there.
    """
    failures: dict[str, str] = {}
    for name, line in functions.items():
        reference, _, text = line.partition(" ")
        options = orjson.loads(text or "{}")
        try:
            function = _resolve_collected(reference)
            if name not in REGISTRY:
                for option in ("retry_on", "no_retry_on"):
                    if option in options:
                        options[option] = tuple(_resolve_collected(one) for one in options[option])
                register(name, function, **options)
        except Exception:  # noqa: BLE001  whatever a user's module raises is that handler's failure, not ours
            failures[name] = traceback.format_exc()
    return failures


def _resolve_collected(reference: str) -> Any:
    """As `resolve`. A module that uses the engine while it is imported is there as far as it was executed."""
    for _ in range(_STOPS_MAX):
        try:
            return resolve(reference)
        except MainCollected:
            resume_stopped()
    return resolve(reference)


def _plain(value: Any) -> Any:
    if isinstance(value, TaskPriority):
        return value.name
    if isinstance(value, list):
        return value
    if isinstance(value, tuple):
        return [f"{one.__module__}:{one.__qualname__}" for one in value]
    return value


def _same_code(one: Callable[..., Any], other: Callable[..., Any]) -> bool:
    """A main script re-executed, or a module imported under a second name, defines the same function anew."""
    if one is other:
        return True
    first, second = getattr(one, "__code__", None), getattr(other, "__code__", None)
    return first is not None and second is not None and \
        (first.co_filename, first.co_qualname) == (second.co_filename, second.co_qualname)
