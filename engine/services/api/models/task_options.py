"""The fields of bodies that give options of a task: one for each option of the table."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, Field, create_model

from engine.core.task.options import TAGS_MAX, Option, OptionType
from engine.services.api.models.base import WHOLE, Memory, PrintableText, Priority, Queue, Seconds
from engine.services.api.models.webhooks import TaskWebhook

TRACEPARENT = r"^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"

Model = TypeVar("Model", bound=BaseModel)


def with_options(options: Mapping[str, Option]) -> Callable[[type[Model]], type[Model]]:
    """A decorator of a model: add a field for each option, none of which is required."""
    def decorate(model: type[Model]) -> type[Model]:
        fields: dict[str, Any] = {name: _field(option) for name, option in options.items()}
        return create_model(model.__name__, __base__=model, __module__=model.__module__, __doc__=model.__doc__,
                            **fields)

    return decorate


def _field(option: Option) -> tuple[Any, Any]:
    text = f"{option.about} The same as the header {option.header}." if option.header else option.about
    examples = None if option.example is None else [option.example]
    return _annotation(option) | None, Field(default=None, description=text, examples=examples)


def _annotation(option: Option) -> Any:
    match option.type:
        case OptionType.TEXT:
            return PrintableText
        case OptionType.QUEUE:
            return Queue
        case OptionType.PRIORITY:
            return Priority
        case OptionType.SECONDS:
            return Seconds
        case OptionType.COUNT:
            return Annotated[int, Field(ge=option.low, le=option.high), WHOLE]
        case OptionType.NUMBER:
            return Annotated[float, Field(ge=option.low, le=option.high)]
        case OptionType.BOOLEAN:
            return bool
        case OptionType.CHOICE:
            return Literal[option.choices]
        case OptionType.MEMORY:
            return Memory
        case OptionType.MEMORY_STEPS:
            return list[Memory]
        case OptionType.TAGS:
            return Annotated[list[PrintableText], Field(max_length=TAGS_MAX)]
        case OptionType.TRACEPARENT:
            return Annotated[str, Field(pattern=TRACEPARENT)]
        case OptionType.WEBHOOK:
            return TaskWebhook
        case OptionType.EXCEPTIONS:
            raise TypeError(f"{option.name} cannot be given in JSON")
