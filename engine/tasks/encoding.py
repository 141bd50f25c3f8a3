"""Writes a payload or a result as JSON, or says which item of it JSON cannot express.

Accepted are None, bool, int of 64 bits, finite float, str, list, tuple, dict with str keys, and subclasses of these;
and values with one obvious JSON form: a pydantic model, a dataclass (without its private fields), an enum's value, a
date or time (ISO 8601), a UUID, an array or a number of numpy's. A handler gets them as plain values, unless its
annotation names a model.

To write a value is one call of orjson. Only for a refusal the value is searched for the item to name. Client and worker
share this module, so that both accept the same values.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import orjson

from engine.errors import InvalidPayload, PayloadTooLarge
from engine.tasks import arrays
from engine.tasks.options import shown

DEPTH_MAX = 254  # levels that orjson writes; it reads 1024
_SCALARS = (str, int, float, bool, type(None))


def encode(value: Any, bytes_max: int, what: str = "payload") -> bytes:
    """Return the JSON text of a value.

    Args:
        value: the value.
        bytes_max: the longest text that is acceptable, in bytes.
        what: the name of the value in messages, such as "payload".

    Raises:
        InvalidPayload: an item is not JSON, such as NaN; it names the path and type of the first one.
        PayloadTooLarge: the text is longer than `bytes_max`.
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
    """Return the plain value for one that orjson does not know. Raises `TypeError` if there is none."""
    if isinstance(value, float):
        return float(value)
    if arrays.is_array(value):
        return arrays.as_json(value)
    if isinstance(value, tuple):
        return list(value)
    dump = getattr(type(value), "model_dump", None)  # a pydantic model; pydantic is not imported here
    if dump is None:
        raise TypeError(f"{type(value).__name__} is not JSON")
    return dump(value, mode="json", by_alias=True)


def rewritten(value: Any) -> bytes:
    """Return the JSON text of a value that orjson has refused for a key that is of a subclass of str."""
    return orjson.dumps(_rewritten(value), default=plain)


def first_fault(value: Any, what: str) -> str | None:
    """Return path and problem of the first item that JSON cannot express, or None."""
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
    """Return the JSON text of a value that orjson has refused. Raises `InvalidPayload` for the first fault."""
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
    """Yield path, value and problem of the items that JSON cannot express, in order."""
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
    """The fields of a dataclass that orjson writes: all but private ones."""
    names = fields(item) if "__slots__" in vars(type(item)) else ()
    values = {entry.name: getattr(item, entry.name) for entry in names} if names else vars(item)
    return ((name, part) for name, part in values.items() if not name.startswith("_"))


def _known(item: Any) -> Any:
    """Return the plain values of a model; any other value unchanged."""
    try:
        return plain(item)
    except Exception:  # noqa: BLE001  a user's serializer failed; the error of orjson is reported
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
