"""What a handler returned, as JSON: what is accepted, and what is refused with its place."""

from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy
import orjson
import pytest
from pydantic import BaseModel, Field

from engine.adapters.process.worker.outcomes import InvalidResult, OutcomeWriter


class Box(BaseModel):
    width: float
    made: date = date(2026, 1, 2)
    label: str = Field("x", alias="name")


@dataclass
class Point:
    x: float


@pytest.fixture
def outcomes() -> OutcomeWriter:
    return OutcomeWriter("sup/0", 1, 1000)


@pytest.mark.parametrize(("returned", "stored"), [
    (None, None), ({"a": None}, {"a": None}), ("null", "null"),
    (Box(width=1.5), {"width": 1.5, "made": "2026-01-02", "name": "x"}),
    ([Box(width=1)], [{"width": 1.0, "made": "2026-01-02", "name": "x"}]),
    ({"p": Point(2.0)}, {"p": {"x": 2.0}}), (numpy.arange(3), [0, 1, 2]), ({"n": numpy.float32(0.5), "z": None}, {
        "n": 0.5, "z": None}),
])
def test_a_result_that_has_one_json_form(outcomes: OutcomeWriter, returned: Any, stored: Any) -> None:
    assert orjson.loads(outcomes.result(returned)) == stored


NAN = float("nan")


@pytest.mark.parametrize(("returned", "place"), [
    (NAN, "the result is nan"), ([1, {"a": float("inf")}], r"the result\[1\].a is inf"),
    (Box(width=NAN), "the result.width is nan"), ([Point(NAN)], r"the result\[0\].x is nan"),
    (numpy.array([[1.0, NAN]]), r"the result\[0\]\[1\] is nan"), ({"n": numpy.float32(NAN)}, "the result.n is nan"),
    ({"a": {1, 2}}, r"the result.a is of type set \(send a list\)"), ({1: 2}, "has the key 1 of type int"),
    (b"x", "the result is of type bytes"), ({"a": object()}, "the result.a is of type object"),
    (2**70, "is an int of more than 64 bits"), ("\ud800", "not valid Unicode"),
])
def test_one_that_has_none_is_refused_with_its_place(outcomes: OutcomeWriter, returned: Any, place: str) -> None:
    with pytest.raises(InvalidResult, match=place):
        outcomes.result(returned)


def test_one_that_is_too_large(outcomes: OutcomeWriter) -> None:
    with pytest.raises(InvalidResult, match="over the limit of 1,000"):
        outcomes.result("x" * 1000)
