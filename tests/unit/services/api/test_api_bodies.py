"""Large bodies of requests: what reading them costs has a bound, whatever is in them."""

from typing import Any

import pytest
from pydantic import BaseModel

from engine.services.api.http import bodies
from engine.services.api.http.problems import HttpError
from engine.services.api.models.search import BatchOperation, TaskBatchEnvelope
from engine.services.api.models.tasks import TaskCreate


def wide(count: int) -> bytes:
    return b"{" + b",".join(b'"%d" :1' % n for n in range(count)) + b"}"


def refused(model: type[BaseModel], raw: bytes) -> HttpError:
    with pytest.raises(HttpError) as error:
        bodies._large(model, raw)
    return error.value


@pytest.fixture
def unvalidated(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model would make an error of each field."""
    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("it was validated")

    monkeypatch.setattr(bodies, "validated", fail)


@pytest.mark.usefixtures("unvalidated")
@pytest.mark.parametrize(("model", "raw", "field"), [
    (TaskCreate, wide(50_000), "0"), (TaskBatchEnvelope, wide(50_000), "0"),
    (TaskCreate, b'{"task_type":"a","webhook":' + wide(50_000) + b"}", "webhook.0"),
    (BatchOperation, b'{"filter":' + wide(50_000) + b"}", "filter.0")])
def test_only_the_first_unknown_fields_are_told(model: type[BaseModel], raw: bytes, field: str) -> None:
    error = refused(model, raw)
    assert (error.status, error.facts["field"], len(error.facts["fields"])) == (422, field, bodies.FIELDS_MAX)


def test_too_many_keys_are_refused_before_they_are_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "from_json", None)
    for raw in (wide(700_000), b'{"task_type":"a","payload":' + wide(bodies.KEYS_MAX + 1) + b"}"):
        error = refused(TaskCreate, raw)
        assert (error.status, error.facts["limit"]) == (413, "100000 keys")


def test_colons_in_texts_are_no_keys() -> None:
    moments = b",".join([b'"2026-01-01T12:00:00Z\\":\\\\"'] * 100_000)
    made = bodies._large(TaskCreate, b'{"task_type":"a","payload":[' + moments + b"]}")
    assert len(made.payload) == 100_000


@pytest.mark.parametrize("end", [b"", b"\\"])
def test_a_text_without_an_end_costs_no_more_than_its_length(end: bytes) -> None:
    error = refused(TaskCreate, b'{"a":1' + b":" * bodies.KEYS_MAX + b'"' + b'\\"' * 1_000_000 + end)
    assert (error.status, error.facts["field"]) == (400, "body")


def test_an_item_of_a_batch_is_bounded_too() -> None:
    with pytest.raises(HttpError) as error:
        bodies.item(TaskCreate, {"task_type": "a", **{str(n): n for n in range(1_000)}})
    assert len(error.value.facts["fields"]) == bodies.FIELDS_MAX


@pytest.mark.parametrize("padding", [0, bodies.SMALL_BYTES])
@pytest.mark.parametrize(("model", "raw", "said"), [
    (TaskCreate, b'{"task_type":"a","timout":4}', "timout: there is no such field; did you mean 'timeout'?"),
    (TaskCreate, b'{"task_type":"a","countdown":4}', "countdown: there is no such field"),
    (TaskCreate, b'{"task_type":"a","webhook":{"ulr":"b"}}',
     "webhook.ulr: there is no such field; did you mean 'url'?"),
    (BatchOperation, b'{"filter":{"staus":["FAILED"]}}',
     "filter.staus: there is no such field; did you mean 'status'?")])
def test_an_unknown_field_names_its_nearest(model: type[BaseModel], raw: bytes, said: str, padding: int) -> None:
    with pytest.raises(HttpError) as error:
        (bodies._large if padding else bodies.validated)(model, raw + b" " * padding)
    found = [f"{field['field']}: {field['detail']}" for field in error.value.facts["fields"]]
    assert (error.value.status, said in found) == (422, True), found
