"""What the engine knows of one handler, and the registry of all handlers of this process.

Workers import this module, so it imports little: no redis, no settings, and pydantic only if a handler's own annotation
is a model.
"""

import importlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast

import orjson

from engine.core.task.priority import TaskPriority
from engine.errors import InvalidHandler, InvalidPayload, held_by
from engine.tasks.signature import nearest_field

NO_PAYLOAD: dict[str, Any] = {}  # the payload of a task that was submitted without one


@dataclass(frozen=True)
class HandlerSpec:
    """One handler: its function, its options, and what its signature says.

    Attributes:
        name: the task type.
        function: the function that a worker calls.
        options: the options that were given, checked, by their names; for the others the settings hold.
        payload_model: the annotation of the payload, if it names a model.
        wants_context: whether the function takes a `Context` after the payload.
        takes_payload: whether the function takes a payload.
    """

    name: str
    function: Callable[..., Any]
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    payload_model: Any = None
    wants_context: bool = False
    takes_payload: bool = True

    # Each submit reads these four, so they are taken out of the options once.

    @cached_property
    def queue(self) -> str:
        """The queue of tasks that are submitted without one."""
        return str(self.options.get("queue", "default"))

    @cached_property
    def priority(self) -> TaskPriority:
        """The priority of tasks that are submitted without one."""
        return cast(TaskPriority, self.options.get("priority", TaskPriority.NORMAL))

    @cached_property
    def expires(self) -> float | None:
        """Seconds after which no run of a task is started; None: no limit."""
        return self.options.get("expires")

    @cached_property
    def max_deliveries(self) -> int | None:
        """The most runs that a task may have; None: no limit."""
        return self.options.get("max_deliveries")

    @property
    def retry_on(self) -> tuple[type[BaseException], ...] | None:
        """The exceptions after which a task is retried; None: after every Exception."""
        return self.options.get("retry_on")

    @property
    def no_retry_on(self) -> tuple[type[BaseException], ...]:
        """The exceptions after which a task is never retried."""
        return cast(tuple[type[BaseException], ...], self.options.get("no_retry_on", ()))

    @cached_property
    def reference(self) -> str:
        """The name by which another process finds the function: `module:qualname`."""
        module = self.function.__module__
        return f"{'__main__' if module == '__mp_main__' else module}:{self.function.__qualname__}"

    def announcement(self) -> dict[str, Any]:
        """Return what a pool publishes about this handler, as JSON values: its name, its function and its options."""
        announcement: dict[str, Any] = {"name": self.name, "function": self.reference}
        about = (self.function.__doc__ or "").strip().partition("\n")[0]
        if about:
            announcement["about"] = about
        return announcement | self.plain_options()

    def plain_options(self) -> dict[str, Any]:
        """Return the options that were given, and always queue and priority, as JSON values."""
        given = {"queue": self.queue, "priority": self.priority, **self.options}
        return {name: _plain(value) for name, value in given.items() if value != ()}

    def may_retry(self, error: BaseException) -> bool:
        """Whether the task may be retried after this exception. In an exception group each member counts."""
        errors = held_by(error)
        if any(issubclass(type(member), self.no_retry_on) for member in errors):
            return False
        return any(issubclass(type(member), self.retry_on or Exception) for member in errors)

    def parse(self, payload: bytes) -> Any:
        """Return the payload as the function takes it: plain values, or its model.

        Raises `InvalidPayload` that names the field if the model refuses the payload.
        """
        if self.payload_model is None:
            return orjson.loads(payload)
        try:
            return self._read_model(payload)
        except Exception as error:  # a model's validators are the user's code and may raise anything
            raise self._refusal(error) from error

    def arguments(self, payload: Any, context: Any) -> tuple[Any, ...]:
        """Return the positional arguments of the call."""
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


REGISTRY: dict[str, HandlerSpec] = {}
"""Every handler that is registered in this process, by its name."""


def resolve(reference: str) -> Any:
    """Import the object that a reference, `module:qualname`, names.

    Raises `InvalidHandler` if there is no such name. An exception that the module raises while it is imported passes
    through.
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


def _plain(value: Any) -> Any:
    """Return the checked value of an option as a JSON value."""
    if isinstance(value, TaskPriority):
        return value.name
    if isinstance(value, tuple):
        return [f"{error.__module__}:{error.__qualname__}" for error in value]
    return value
