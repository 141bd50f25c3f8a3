"""Writes numpy's arrays and numbers as JSON, in any memory layout.

numpy is not imported here: code that has an array has imported it.

Complex numbers, spans of time, NaT and numbers of more than 64 bits are refused, since JSON has no such values. The
caller looks for NaN in the text.
"""

import sys
from typing import Any

import orjson

_NATIVE = frozenset("biufM")  # kinds of dtype that orjson can write


def is_array(item: Any) -> bool:
    """Whether a value is an array or a number of numpy's."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(item, (numpy.ndarray, numpy.generic))


def fault(item: Any) -> str | None:
    """Return why an array or a number cannot be written as JSON, or None. Its items are not looked at."""
    dtype = item.dtype
    if dtype.kind == "m":
        return "is of type timedelta64 (send a number of seconds)"
    if dtype.kind == "c":
        return f"is of type {dtype.name} (send its .real and .imag)"
    if dtype.kind == "f" and dtype.itemsize > 8:
        return f"is of type {dtype.name} (send it as float64)"
    if dtype.kind == "M" and (item != item).any():  # only NaT is not equal to itself
        return "is or has NaT (send None, or leave it out)"
    return None


def as_json(item: Any) -> Any:
    """Return the value that orjson writes for an array or a number. Raises `TypeError` if it has a `fault`."""
    why = fault(item)
    if why is not None:
        raise TypeError(why)
    is_plain = type(item) is sys.modules["numpy"].ndarray or not item.ndim
    if item.dtype.kind not in _NATIVE or not is_plain:  # text, objects, records; masked arrays and other subclasses
        return item.tolist()
    if item.ndim:  # in C's order, and with this machine's order of bytes
        item = item.astype(item.dtype.newbyteorder("="), order="C", copy=False)
    elif item.dtype.kind == "M":
        item = item[()]
    else:
        return item.item()
    return orjson.Fragment(orjson.dumps(item, option=orjson.OPT_SERIALIZE_NUMPY))
