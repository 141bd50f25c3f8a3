"""Payloads and results accept the same values, and refuse the same with place and remedy."""

import collections
import enum
import pathlib
import typing
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import orjson
import pytest

from engine.adapters.process.worker.outcomes import InvalidResult, OutcomeWriter
from engine.errors import InvalidPayload
from engine.tasks.encoding import encode

Encoder = Callable[[Any], bytes]


def as_payload(value: Any) -> bytes:
    return encode(value, 10_000_000)


def as_result(value: Any) -> bytes:
    return OutcomeWriter("sup/0", 1, 10_000_000).result(value)


@pytest.fixture(params=[as_payload, as_result])
def write(request: pytest.FixtureRequest) -> Encoder:
    encoder: Encoder = request.param
    return encoder


class Money(float):
    pass


class Name(str):
    __slots__ = ()


class Row(typing.NamedTuple):
    x: int
    y: Any = None


class Number(enum.IntEnum):
    ONE = 1


@dataclass
class Cached:
    x: Any = 1
    _cache: Any = field(default_factory=set)


@dataclass
class Slotted:
    __slots__ = ("_hidden", "x")
    x: Any
    _hidden: Any


class Table(np.ndarray):  # type: ignore[type-arg]
    pass


GRID = np.arange(6.0).reshape(2, 3)
LAYOUTS: dict[str, np.ndarray[Any, Any]] = {
    "C": GRID, "transposed": GRID.T, "a column": GRID[:, 0], "reversed": GRID[::-1], "every other": GRID[:, ::2],
    "Fortran's": np.asfortranarray(GRID), "broadcast": np.broadcast_to(np.array([1, 2]), (2, 2)),
    "big endian": np.array([1, 2], dtype=">i4"), "no items": np.array([]), "no items in rows": np.zeros((2, 0)),
    "0-d": np.array(5), "0-d of text": np.array("a"), "text": np.array([["a"], ["b"]]), "bools": np.array([True]),
    "objects": np.array([{"a": 1}, None, [GRID[0]]], dtype=object), "half": np.array([1.5], dtype="f2"),
    "unsigned": np.array([2**64 - 1], dtype="u8"), "subclass": GRID.view(Table), "texts": np.array(["a", "b"])[::-1],
    "records": np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]), "masked": np.ma.array([1, 2], mask=[0, 1])}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_array_is_its_list_whatever_its_layout(write: Encoder, layout: str) -> None:
    array = LAYOUTS[layout]
    expected = orjson.loads(orjson.dumps(array.tolist(), default=lambda one: one.tolist()))
    assert orjson.loads(write(array)) == expected
    assert orjson.loads(write({"rows": [{"values": array}]})) == {"rows": [{"values": expected}]}


def test_moments_of_arrays_are_told_alike(write: Encoder) -> None:
    for unit in ("s", "ms", "ns"):
        days = np.array(["2026-01-01", "2026-01-02"], dtype=f"M8[{unit}]")
        texts = ["2026-01-01T00:00:00", "2026-01-02T00:00:00"]
        assert orjson.loads(write(days)) == texts
        assert orjson.loads(write(days[::-1])) == texts[::-1]
        assert orjson.loads(write([days[0], np.array(days[1])])) == texts


@pytest.mark.parametrize(("value", "expected"), [
    (Money(1.5), 1.5), ({"price": Money(1.5)}, {"price": 1.5}), (Name("x"), "x"), (Number.ONE, 1), (Row(1), [1, None]),
    ({"rows": [Row(1, Row(2))]}, {"rows": [[1, [2, None]]]}), ({Name("a"): Money(1)}, {"a": 1.0}),
    ({np.str_("a"): Row(1, {np.str_("b"): GRID[:, 0]})}, {"a": [1, {"b": [0.0, 3.0]}]}),
    (Cached(), {"x": 1}), (Cached(None), {"x": None}), ([Cached({np.str_("a"): None})], [{"x": {"a": None}}]),
    (Slotted(None, {1}), {"x": None}), (collections.OrderedDict(a=None, b=GRID[0]), {"a": None, "b": [0.0, 1.0, 2.0]}),
    (np.float64(1.5), 1.5), (np.float32(0.5), 0.5), (np.float16(0.5), 0.5), (np.int64(3), 3), (np.uint8(3), 3),
    (np.bool_(True), True), (np.str_("x"), "x"), ([np.float64(0.5)] * 3, [0.5] * 3)])
def test_what_has_one_obvious_form(write: Encoder, value: Any, expected: Any) -> None:
    assert orjson.loads(write(value)) == expected


@pytest.mark.parametrize(("value", "words"), [
    (Money("nan"), " is nan"), ([Row(1, float("inf"))], "[0][1] is inf"), ({"a": Cached(float("nan"))}, ".a.x is nan"),
    (np.array([[1.0, np.nan]]).T, "[1][0] is nan"), (np.float32("nan"), " is nan"),
    ({"a": np.longdouble(1.5)}, ".a is of type float128 (send it as float64)"),
    ([np.array([1.0], dtype="g")], "[0] is of type float128 (send it as float64)"),
    (np.array([1j]), " is of type complex128 (send its .real and .imag)"), (1j, " is of type complex (send its parts)"),
    (np.array([1, 2], dtype="m8[ns]")[::-1], " is of type timedelta64 (send a number of seconds)"),
    (np.timedelta64(3, "s"), " is of type timedelta64"), (timedelta(1), "timedelta (send its .total_seconds())"),
    ({"a": np.array(["2026-01-01", "NaT"], dtype="M8[ns]")}, ".a is or has NaT (send None, or leave it out)"),
    (np.datetime64("NaT"), " is or has NaT"), (np.array([b"a"]), "[0] is of type bytes (decode it, or use base64)"),
    (np.array([{1}], dtype=object), "[0] is of type set (send a list)"),
    ({np.int64(1): 1}, " has the key np.int64(1) of type int64, not str"),
    ({"a": collections.deque([1])}, ".a is of type deque (send a list)"), (range(3), " is of type range (send a list)"),
    (type(Money.__dict__)({"a": 1}), " is of type mappingproxy (send a dict)"), (frozenset([1]), "(send a list)"),
    ([pathlib.Path("/x")], "[0] is of type PosixPath (send it as a str)"), (Decimal(1), "(send it as a str)"),
    ([Row(1, Cached(object()))], "[0][1].x is of type object")])
def test_what_has_none_is_refused_with_its_place_and_a_remedy(write: Encoder, value: Any, words: str) -> None:
    what = "payload" if write is as_payload else "the result"
    with pytest.raises((InvalidPayload, InvalidResult)) as refusal:
        write(value)
    assert what + words in str(refusal.value) or (not words.startswith((" ", ".", "[")) and words in str(refusal.value))
