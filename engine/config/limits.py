"""What a setting accepts, in words; and how its value is shown without giving a password away."""

import typing
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from engine.config.model import Settings

_SHOWN_CHARS_MAX = 120


def limit_of(name: str, model: type[BaseModel] = Settings) -> str:
    """What may be written for the setting, such as `a whole number from 1 to 1024 (processes)`."""
    field = model.model_fields[name]
    extra = extra_of(field)
    if extra["limit"]:
        return extra["limit"]
    low, high = bounds_of(field)
    kind = "a whole number" if _is_whole(field.annotation) else "a number"
    return f"{kind} from {low:g} to {exact(high)} ({extra['unit']})"


def extra_of(field: FieldInfo) -> dict[str, str]:
    """The `unit`, `limit` and `shown` that the model's `setting()` keeps with a field."""
    extra = field.json_schema_extra
    assert isinstance(extra, dict)
    return {name: str(text) for name, text in extra.items()}


def bounds_of(field: FieldInfo) -> tuple[float, float]:
    """The least and the greatest number that are accepted."""
    low = next(float(mark.ge) for mark in field.metadata if isinstance(mark, annotated_types.Ge))  # type: ignore[arg-type]
    high = next(float(mark.le) for mark in field.metadata if isinstance(mark, annotated_types.Le))  # type: ignore[arg-type]
    return low, high


def exact(number: float) -> str:
    """The number without an exponent: 1000000000, not 1e+09."""
    return str(int(number)) if number == int(number) else f"{number:g}"


def _is_whole(annotation: Any) -> bool:
    return annotation is int or any(_is_whole(part) for part in typing.get_args(annotation))


def shown(name: str, value: Any) -> str:
    """The value as text for people: short, and a URL without its password."""
    if name == "redis_url" and isinstance(value, str):
        value = without_password(value)
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARS_MAX else text[:_SHOWN_CHARS_MAX] + "…"


def without_password(url: str) -> str:
    """The URL with `***` where the password was."""
    try:
        parts = urlsplit(url)
    except ValueError:  # not a URL, and no telling where in it a password is
        return url.partition("@")[0].partition(":")[0] + ":***"
    user, at, host = parts.netloc.rpartition("@")
    name, colon, _ = user.partition(":")
    netloc = f"{name}{':***' if colon else ''}{at}{host}"
    query = "&".join(f"{name}=***" if name.endswith("password") else part
                     for part in parts.query.split("&") for name in [part.partition("=")[0]])
    return urlunsplit(parts._replace(netloc=netloc, query=query))
