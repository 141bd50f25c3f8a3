"""A Task whose fields are read when they are asked for is, for whoever holds it, the same as one that was validated."""

import copy
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from engine.adapters.redis.tasks.task_reader import EncodedTask
from engine.client.models import Task
from engine.core.task.lifecycle import TaskStatus

ID = "01H5RC2K8D7QZ3V0M4T"
RECORD = b'["thumbnail","images",2,{"tags":["a"],"due_ms":1764500000000}]\n{"id":7}'
LINE = b"COMPLETED 1 0 0 2 57 1764500000001 -"
OUTCOME = (b'{"run":1,"cause":"returned","result":{"bytes":[1,2]},"started_ms":1764500000000,"ended_ms":1764500000001,'
           b'"wall_s":0.000012,"cpu_s":0.000012,"peak_rss_bytes":12345678,"logs_dropped_bytes":0,"worker":"w/0","pid":4}')


class Read(EncodedTask):
    """A raw task that notes what is read of it."""

    notes: list[str] = []  # noqa: RUF012

    def result(self) -> Any:
        self.notes.append("result")
        return super().result()

    def stored(self) -> Any:
        self.notes.append("all")
        return super().stored()


@pytest.fixture
def raw() -> Read:
    Read.notes.clear()
    return Read(ID, RECORD, LINE, OUTCOME, None)


@pytest.fixture
def task(raw: Read) -> Task:
    return Task.unread(raw, raw.status)


@pytest.fixture
def validated() -> Task:
    values = Task.of(EncodedTask(ID, RECORD, LINE, OUTCOME, None).stored()).model_dump()
    return Task.model_validate(values)


def test_id_and_status_need_no_reading(task: Task, raw: Read) -> None:
    assert (task.id, task.status) == (ID, TaskStatus.COMPLETED)
    assert not raw.notes


def test_a_result_is_read_alone_and_once(task: Task, raw: Read) -> None:
    assert task.result == {"bytes": [1, 2]}
    assert task.result is task.result
    assert raw.notes == ["result"]


def test_any_other_field_reads_the_rest_and_leaves_the_result_as_it_was_handed_out(task: Task, raw: Read) -> None:
    handed_out = task.result
    assert (task.payload, task.queue, task.tags) == ({"id": 7}, "images", ["a"])
    assert task.result is handed_out
    assert raw.notes == ["result", "all"]


WAYS: dict[str, Callable[[Task], Any]] = {
    "model_dump": lambda task: task.model_dump(),
    "as JSON": lambda task: task.model_dump_json(),
    "by an adapter": lambda task: TypeAdapter(list[Task]).dump_json([task]),
    "in another model": lambda task: Holder(task=task).model_dump(),
    "repr": repr,
    "str": str,
    "dict": dict,
    "vars": vars,
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "model_copy": lambda task: task.model_copy(update={"name": "x"}),
    "pickle": lambda task: pickle.loads(pickle.dumps(task)),
    "fields set": lambda task: task.model_fields_set,
    "a field": lambda task: task.created_at,
}


class Holder(BaseModel):
    task: Task


@pytest.mark.parametrize("way", WAYS)
def test_it_looks_the_same_in_every_way(task: Task, validated: Task, way: str) -> None:
    assert WAYS[way](task) == WAYS[way](validated)


def test_they_are_equal_both_ways(raw: Read, validated: Task) -> None:
    assert Task.unread(raw, raw.status) == validated
    assert validated == Task.unread(raw, raw.status)
    assert Task.unread(raw, raw.status) == Task.unread(raw, raw.status)


def test_what_there_is_not_is_an_error_as_ever(task: Task) -> None:
    with pytest.raises(AttributeError, match="no attribute 'flavour'"):
        _ = task.flavour  # type: ignore[attr-defined]
    with pytest.raises(ValidationError, match="frozen"):
        task.name = "x"  # type: ignore[misc]


def test_threads_may_read_one_task_at_once(raw: Read) -> None:
    with ThreadPoolExecutor(8) as threads:
        for _ in range(50):
            task = Task.unread(raw, raw.status)
            results = list(threads.map(lambda name, task=task: getattr(task, name),
                                       ["payload", "result", "tags", "queue"] * 4))
            assert results == [{"id": 7}, {"bytes": [1, 2]}, ["a"], "images"] * 4


def test_a_task_can_be_made_field_by_field() -> None:
    task = Task(id="x", task_type="t", status=TaskStatus.QUEUED, priority="high", queue="q",  # type: ignore[arg-type]
                created_at=0)  # type: ignore[arg-type]
    assert (task.priority.name, task.tags, task.result) == ("HIGH", [], None)
