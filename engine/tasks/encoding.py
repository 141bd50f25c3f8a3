"""Turns a payload or a result into JSON, or says which item of it is not JSON.

What is accepted is what can be written without guessing: None, bool, int of 64 bits, finite
float, str, list, tuple, dict with str keys, and subclasses of these; and what has one obvious JSON form: a pydantic
model, a dataclass (without its private fields), an enum's value, a date or time (ISO 8601), a UUID, an array or a
number of numpy's. They arrive as plain values, unless the handler's annotation names a model.

Writing is one call of orjson; only a refusal walks through the value to name the culprit.
Client and worker share this, so that what one refuses the other does.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import orjson

from engine.errors import InvalidPayload, PayloadTooLarge
from engine.tasks import arrays
from engine.tasks.options import shown

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
        text = _rewritten_or_refused(value, what, error)
    if b"null" in text:  # orjson writes NaN as null
        _refuse_not_finite(value, what)
    if len(text) > bytes_max:
        raise PayloadTooLarge(f"the {what} has {len(text)} bytes of JSON, and {bytes_max} are allowed",
                              field=what, value=f"{len(text)} bytes", limit=f"{bytes_max} bytes")
    return text


def plain(value: Any) -> Any:
    """What stands in JSON for a value that orjson does not know. Raises `TypeError` where there is nothing."""
    if isinstance(value, float):
        return float(value)
    if arrays.is_array(value):
        return arrays.as_json(value)
    if isinstance(value, tuple):
        return list(value)
    dump = getattr(type(value), "model_dump", None)  # a pydantic model; pydantic need not be imported to know one
    if dump is None:
        raise TypeError(f"{type(value).__name__} is not JSON")
    return dump(value, mode="json", by_alias=True)


def rewritten(value: Any) -> bytes:
    """The JSON text of a value without a fault that orjson has refused all the same: for a key of a subclass of str."""
    return orjson.dumps(_rewritten(value), default=plain)


def first_fault(value: Any, what: str) -> str | None:
    """The path and the problem of the first item that JSON cannot say; None where there is none."""
    return next((f"{path} {problem}" for path, _, problem in _faults(value, what, 0)), None)


def _rewritten(item: Any) -> Any:
    if isinstance(item, dict):
        return {str.__str__(key): _rewritten(part) for key, part in item.items()}
    if isinstance(item, (list, tuple)):
        return [_rewritten(part) for part in item]
    if is_dataclass(item) and not isinstance(item, type):
        return {name: _rewritten(part) for name, part in _fields(item)}
    return item


def _rewritten_or_refused(value: Any, what: str, error: Exception) -> bytes:
    """Raises `InvalidPayload` for the first fault."""
    for path, item, problem in _faults(value, what, 0):
        raise InvalidPayload(f"{path} {problem}: only JSON goes to a task", field=path, value=shown(item),
                             limit="JSON values") from None
    try:
        return rewritten(value)
    except (TypeError, ValueError, RecursionError):
        raise InvalidPayload(f"the {what} is not JSON: {error}", field=what, value=shown(value),
                             limit="JSON values") from error


def _refuse_not_finite(value: Any, what: str) -> None:
    for path, item, problem in _faults(value, what, 0):
        raise InvalidPayload(f"{path} {problem}: JSON has no such number", field=path, value=shown(item),
                             limit="a finite number")


def _faults(item: Any, path: str, depth: int) -> Iterator[tuple[str, Any, str]]:
    """Path, value and problem of the items that JSON cannot say, in order."""
    if depth > DEPTH_MAX:
        yield path[:60] + "…", item, f"is nested more than {DEPTH_MAX} levels deep (or contains itself)"
    elif isinstance(item, dict):
        for key, part in item.items():
            if not isinstance(key, str):
                yield f"{path}", key, f"has the key {shown(key)} of type {type(key).__name__}, not str"
            else:
                yield from _text_faults(key, f"a key of {path}")
                place = f"{path}.{key}" if key.isidentifier() else f"{path}[{str.__str__(key)!r}]"
                yield from _faults(part, place, depth + 1)
    elif isinstance(item, (list, tuple)):
        for index, part in enumerate(item):
            yield from _faults(part, f"{path}[{index}]", depth + 1)
    elif arrays.is_array(item):
        yield from _array_faults(item, path, depth)
    elif isinstance(item, _SCALARS):
        yield from _scalar_faults(item, path)
    elif is_dataclass(item) and not isinstance(item, type):
        for name, part in _fields(item):
            yield from _faults(part, f"{path}.{name}", depth + 1)
    elif (known := _known(item)) is not item:
        yield from _faults(known, path, depth + 1)
    else:
        yield from _other_faults(item, path)


def _array_faults(item: Any, path: str, depth: int) -> Iterator[tuple[str, Any, str]]:
    problem = arrays.fault(item)
    if problem is not None:
        yield path, item, problem
    elif item.dtype.kind != "M":
        yield from _faults(item.tolist(), path, depth)


def _fields(item: Any) -> Iterator[tuple[str, Any]]:
    """What orjson writes of a dataclass: no private fields."""
    names = fields(item) if "__slots__" in vars(type(item)) else ()
    values = {one.name: getattr(item, one.name) for one in names} if names else vars(item)
    return ((name, part) for name, part in values.items() if not name.startswith("_"))


def _known(item: Any) -> Any:
    """The plain values behind a model; anything else as it is."""
    try:
        return plain(item)
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


_REMEDIES = {"bytes": "decode it, or use base64", "set": "send a list", "frozenset": "send a list",
             "Decimal": "send it as a str", "timedelta": "send its .total_seconds()", "complex": "send its parts"}


def _other_faults(item: Any, path: str) -> Iterator[tuple[str, Any, str]]:
    try:
        orjson.dumps(item, default=plain)
    except (TypeError, ValueError, RecursionError):
        yield path, item, f"is of type {type(item).__name__}{_remedy(item)}"


def _remedy(item: Any) -> str:
    remedy = _REMEDIES.get(type(item).__name__)
    if remedy is None and hasattr(item, "tolist"):
        remedy = "send its .tolist()"
    if remedy is None and hasattr(item, "__fspath__"):
        remedy = "send it as a str"
    if remedy is None and isinstance(item, Iterable) and not isinstance(item, type):
        remedy = "send a dict" if isinstance(item, Mapping) else "send a list"
    return f" ({remedy})" if remedy else ""
