"""Handlers: the user's functions, registered by the name that tasks call them by.

    @handler("thumbnail", queue="images", timeout=30)
    def thumbnail(payload: ThumbnailRequest, ctx: Context) -> dict: ...

Workers import this module, so it imports little. Name, options and signature are checked when a handler is registered.
"""

from collections.abc import Callable, Mapping
from functools import update_wrapper
from typing import Any, ClassVar, Generic, ParamSpec, Protocol, TypeVar, Unpack

from engine.errors import InvalidHandler, InvalidPayload
from engine.tasks import options as check
from engine.tasks.handler_spec import NO_PAYLOAD, REGISTRY, HandlerSpec, resolve
from engine.tasks.options import HandlerOptions
from engine.tasks.signature import Signature, read_signature, refuse_not_a_function, refuse_unreachable

P = ParamSpec("P")
R = TypeVar("R")

_NOT_GIVEN: Any = object()


class Submitter(Protocol):
    """A client, as far as a handler uses one."""

    def submit(self, task_type: Any, payload: Any = ..., **options: Any) -> str: ...


class Handler(Generic[P, R]):
    """A registered function. A call of it is a plain call; `submit` sends a task to the workers."""

    default_client: ClassVar[Callable[[], Submitter]]
    """Gives the client that `submit` uses. The package sets it: a worker that only runs handlers loads no client."""

    def __init__(self, spec: HandlerSpec, function: Callable[P, R]) -> None:
        self.spec = spec
        self._function = function
        update_wrapper(self, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._function(*args, **kwargs)

    def submit(self, payload: Any = _NOT_GIVEN, /, **fields: Any) -> str:
        """Submit a task through the default client, and return its id.

        Args:
            payload: the whole payload, as in `f.submit({"id": 7})`.
            **fields: the fields of the payload, as in `f.submit(id=7)`.

        Raises:
            InvalidPayload: both were given.
            GangerError: as `Client.submit`.
        """
        if payload is not _NOT_GIVEN and fields:
            raise InvalidPayload(f"{self.spec.name!r} was given a payload and the field {next(iter(fields))!r}: give "
                                 "the payload whole or by its fields; options go to submit_with", field="payload",
                                 value=check.shown(payload), limit="one of the two")
        return self.submit_with(fields if payload is _NOT_GIVEN else payload)

    def submit_with(self, payload: Any = NO_PAYLOAD, /, **options: Any) -> str:
        """Submit a task through the default client, with options, and return its id.

        Args:
            payload: the payload, {} if there is none.
            **options: the options of `Client.submit`; times are in seconds.

        Raises:
            GangerError: as `Client.submit`.
        """
        return Handler.default_client().submit(self.spec.name, payload, **options)

    def __repr__(self) -> str:
        return f"<Handler {self.spec.name!r}: {self.spec.reference}>"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle it by its name, as functions are pickled, so that multiprocessing can take it."""
        return _handler_of, (self.spec.reference, self.spec.name)


def _handler_of(reference: str, name: str) -> Handler[..., Any]:
    """Return the handler `name` in a process that may have to import its module first."""
    found = resolve(reference)
    if isinstance(found, Handler) and found.spec.name == name:
        return found
    spec = REGISTRY.get(name)
    return Handler(spec, spec.function) if spec is not None else Handler(make_spec(name, found, {}), found)


def handler(name: str, **options: Unpack[HandlerOptions]) -> Callable[[Callable[P, R]], Handler[P, R]]:
    """Register the decorated function under `name`.

    The function takes the payload first and, if it wants one, a Context second. A payload that is annotated with a
    pydantic model or a dataclass arrives as one.

    Args:
        name: the task type.
        **options: times in seconds: queue, priority, expires, timeout, soft_timeout, max_retries, retry_backoff_s,
            retry_factor, retry_backoff_s_max, retry_jitter, retry_on, no_retry_on, retry_on_timeout, max_deliveries,
            max_crashes, max_memory (bytes, or text such as "512M"), retry_with_memory, max_cpu_seconds, max_processes,
            nice, preemptible, start_method, preload, result_ttl. For the others the engine's settings hold.
            docs/options.md says what each means.

    Raises:
        InvalidOption: an option is unknown or out of bounds.
        InvalidHandler: another process could not find the function by its name, or its signature does not fit.
    """
    if not isinstance(name, str):
        raise InvalidHandler(f"@handler needs the task type as its first argument, not {check.shown(name)}: "
                             "write @handler(\"thumbnail\")", field="name", value=check.shown(name), limit="a name")

    def decorate(function: Callable[P, R]) -> Handler[P, R]:
        return Handler(register(name, function, **options), function)

    return decorate


def register(name: str, function: Callable[..., Any], **options: Unpack[HandlerOptions]) -> HandlerSpec:
    """Register a function under `name`, as the decorator does, and return its spec.

    To register the same function again replaces its options. Raises as `handler` does, and `InvalidHandler` if another
    function has the name.
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
    """Check name, options and signature, and register nothing.

    Args:
        name: the task type.
        function: the function, or a `Handler` whose options are taken over.
        options: options by name.
        local: the handler runs in this process only, so that no other process has to find it by its name.

    Raises:
        InvalidOption: an option is unknown or out of bounds.
        InvalidHandler: the function cannot be a handler.
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
    _check_memory_steps(checked)
    signature: Signature = read_signature(function, name)
    return HandlerSpec(name, function, checked, payload_model=signature.payload_model,
                       wants_context=signature.wants_context, takes_payload=signature.takes_payload)


def _check_memory_steps(checked: Mapping[str, Any]) -> None:
    """More memory after a crash only makes sense if the first run has a lower limit."""
    steps, first = checked.get("retry_with_memory"), checked.get("max_memory")
    if steps and not 0 < (first or 0) < steps[0]:
        raise check.refuse("retry_with_memory", steps, f"more than max_memory, which is {first or 'not set'}")


def _same_code(one: Callable[..., Any], other: Callable[..., Any]) -> bool:
    """Whether two functions are one: a script that is executed again defines its functions anew."""
    if one is other:
        return True
    first, second = getattr(one, "__code__", None), getattr(other, "__code__", None)
    return first is not None and second is not None and \
        (first.co_filename, first.co_qualname) == (second.co_filename, second.co_qualname)
