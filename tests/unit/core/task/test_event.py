"""Rows of the event stream: written short, read whole."""

import pytest
from hypothesis import given
from hypothesis import strategies as some

from engine.core.task.event import events, row
from engine.core.task.lifecycle import TaskStatus
from engine.core.task.task_id import ALPHABET, LENGTH

ids = some.text(ALPHABET, min_size=LENGTH, max_size=LENGTH)


@given(some.lists(ids, min_size=1, max_size=20), some.sampled_from(TaskStatus), some.integers(0, 1000))
def test_what_is_written_is_read(made: list[str], status: TaskStatus, run: int) -> None:
    assert list(events(row(made, status, run).encode())) == [(task_id, status, run) for task_id in made]


def test_ids_submitted_together_share_what_they_have_in_common() -> None:
    assert row(["01H5RC2K8D7QZ3VAAA1", "01H5RC2K8D7QZ3VAAA2"], TaskStatus.QUEUED, 0) == (
        "01H5RC2K8D7QZ3VAAA*1,2 QUEUED 0")
    assert row(["01H5RC2K8D7QZ3VAAA1"] * 2, TaskStatus.QUEUED, 0).count("01H5RC2K8D7QZ3VAAA1") == 2


def test_several_rows() -> None:
    assert list(events(b"AB RUNNING 1\nAB COMPLETED 1\nA*B,C QUEUED 0")) == [
        ("AB", "RUNNING", 1), ("AB", "COMPLETED", 1), ("AB", "QUEUED", 0), ("AC", "QUEUED", 0)]


@pytest.mark.parametrize("entry", [b"AB", b"AB RUNNING", b"AB SOMEHOW 1", b"AB RUNNING one"])
def test_what_is_no_row(entry: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        list(events(entry))
