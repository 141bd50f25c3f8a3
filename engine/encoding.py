"""Turns a payload or a result into JSON, or says which item of it is not JSON.

What is accepted is what orjson writes without guessing: None, bool, int of 64 bits, finite
float, str, list, tuple, dict with str keys; and what has one obvious JSON form: a pydantic
model, a dataclass, an enum's value, a date or time (ISO 8601), a UUID. They arrive as plain
values, unless the handler's annotation names a model.

Writing is one call of orjson; only a refusal walks through the value to name the culprit.
Client and worker share this, so that what one refuses the other does.
"""

import math
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any, NoReturn

import orjson

from engine.errors import InvalidPayload, PayloadTooLarge
from engine.options import shown

DEPTH_MAX = 254  # what orjson writes; it reads up to 1024
_SCALARS = (str, int, float, bool, type(None))


def encode(value: Any, bytes_max: int, what: str = "payload") -> bytes:
    """The JSON text of `value`; `what` names it in messages.

    Raises `InvalidPayload` with the path and type of the first item that is not JSON (NaN and the infinities are
    not), and `PayloadTooLarge` beyond `bytes_max`.
    """
    try:
        text = orjson.dumps(value, default=plain)
    except (TypeError, ValueError, RecursionError) as error:
        _refuse(value, what, error)
    if b"null" in text:  # orjson writes NaN as null
        _refuse_not_finite(value, what)
    if len(text) > bytes_max:
        raise PayloadTooLarge(f"the {what} has {len(text)} bytes of JSON, and {bytes_max} are allowed",
                              field=what, value=f"{len(text)} bytes", limit=f"{bytes_max} bytes")
    return text


def plain(value: Any) -> Any:
    """What orjson does not know: a pydantic model, recognised by its method so that pydantic need not be imported."""
    dump = getattr(type(value), "model_dump", None)
    if dump is None:
        raise TypeError(f"{type(value).__name__} is not JSON")
    return dump(value, mode="json", by_alias=True)


def first_fault(value: Any, what: str) -> str | None:
    """The path and the problem of the first item that JSON cannot say; None where there is none.

    For results, in which arrays and numbers of numpy are accepted.
    """
    return next((f"{path} {problem}" for path, _, problem in _faults(value, what, 0, arrays=True)), None)


def _refuse(value: Any, what: str, error: Exception) -> NoReturn:
    for path, item, problem in _faults(value, what, 0):
        raise InvalidPayload(f"{path} {problem}: only JSON goes to a task", field=path, value=shown(item),
                             limit="JSON values") from None
    raise InvalidPayload(f"the {what} is not JSON: {error}", field=what, value=shown(value),
                         limit="JSON values") from error


def _refuse_not_finite(value: Any, what: str) -> None:
    for path, item, problem in _faults(value, what, 0):
        raise InvalidPayload(f"{path} {problem}: JSON has no such number", field=path, value=shown(item),
                             limit="a finite number")


def _faults(item: Any, path: str, depth: int, *, arrays: bool = False) -> Iterator[tuple[str, Any, str]]:
    """Path, value and problem of the items that JSON cannot say, in order."""
    if depth > DEPTH_MAX:
        yield path[:60] + "…", item, f"is nested more than {DEPTH_MAX} levels deep (or contains itself)"
    elif isinstance(item, dict):
        for key, part in item.items():
            if not isinstance(key, str):
                yield f"{path}", key, f"has the key {shown(key)} of type {type(key).__name__}, not str"
            else:
                yield from _text_faults(key, f"a key of {path}")
                place = f"{path}.{key}" if key.isidentifier() else f"{path}[{key!r}]"
                yield from _faults(part, place, depth + 1, arrays=arrays)
    elif isinstance(item, (list, tuple)):
        for index, part in enumerate(item):
            yield from _faults(part, f"{path}[{index}]", depth + 1, arrays=arrays)
    elif isinstance(item, _SCALARS):
        yield from _scalar_faults(item, path)
    elif is_dataclass(item) and not isinstance(item, type):
        for field in fields(item):
            yield from _faults(getattr(item, field.name), f"{path}.{field.name}", depth + 1, arrays=arrays)
    elif (known := _known(item, arrays=arrays)) is not item:
        yield from _faults(known, path, depth + 1, arrays=arrays)
    else:
        yield from _other_faults(item, path)


def _known(item: Any, *, arrays: bool) -> Any:
    """The plain values behind a model, or behind an array or a number of numpy's; anything else as it is."""
    try:
        return item.tolist() if arrays and type(item).__module__ == "numpy" else plain(item)
    except Exception:  # noqa: BLE001  a serializer of the user's; what orjson says of it is reported
        return item


def _scalar_faults(item: Any, path: str) -> Iterator[tuple[str, Any, str]]:
    if isinstance(item, str):
        yield from _text_faults(item, path)
    elif isinstance(item, float) and not math.isfinite(item):
        yield path, item, f"is {item}"
    elif isinstance(item, int) and not -(1 << 63) <= item < 1 << 64:
        yield path, item, "is an int of more than 64 bits (send it as a str)"


def _text_faults(text: str, path: str) -> Iterator[tuple[str, Any, str]]:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        yield path, text, f"has a character that is not valid Unicode, {text[error.start]!r} at {error.start}"


def _other_faults(item: Any, path: str) -> Iterator[tuple[str, Any, str]]:
    remedy = {"bytes": " (decode it, or use base64)", "set": " (send a list)", "Decimal": " (send it as a str)",
              "ndarray": " (send its .tolist())"}
    try:
        orjson.dumps(item, default=plain)
    except (TypeError, ValueError, RecursionError):
        yield path, item, f"is of type {type(item).__name__}{remedy.get(type(item).__name__, '')}"
