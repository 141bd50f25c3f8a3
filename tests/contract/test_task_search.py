"""Searches: every task that matches, once, whatever the pages."""

import pytest

from engine.adapters.redis.tasks import search
from engine.client.filters import query_of
from engine.core.task.lifecycle import TaskStatus
from engine.core.task.priority import TaskPriority
from engine.core.task.query import Order, TaskQuery
from engine.errors import InvalidOption
from tests.scripts.broker_rig import HOUR_MS, BrokerRig


def pages(rig: BrokerRig, limit: int, **wanted: object) -> list[str]:
    """The ids of all pages, one after the other."""
    ids: list[str] = []
    cursor = None
    while True:
        page = rig.broker.search(query_of(wanted), limit, cursor)
        assert len(page.tasks) <= limit
        ids += [stored.id for stored in page.tasks]
        cursor = page.cursor
        if cursor is None:
            return ids


@pytest.fixture
def made(rig: BrokerRig) -> dict[str, list[str]]:
    return {
        "QUEUED": [rig.submit(queue, priority) for queue in ("q", "x") for priority in TaskPriority for _ in range(3)],
        "PENDING": [rig.pending(due_ms=HOUR_MS + n) for n in range(5)],
        "RETRYING": [rig.retrying(due_ms=HOUR_MS) for _ in range(5)],
        "RUNNING": [rig.claimed(supervisor=name) for name in ("one", "two") for _ in range(3)],
        **{status: [rig.ended(TaskStatus(status), kept_ms=HOUR_MS) for _ in range(4)]
           for status in ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT")}}


@pytest.mark.parametrize("limit", [1, 3, 100])
def test_by_status(rig: BrokerRig, made: dict[str, list[str]], limit: int) -> None:
    for status, ids in made.items():
        found = pages(rig, limit, status=TaskStatus(status))
        assert sorted(found) == sorted(ids)
        if status == "RUNNING":
            assert found == sorted(ids, reverse=True)


@pytest.mark.parametrize("limit", [1, 7, 100])
def test_all_the_newest_first(rig: BrokerRig, made: dict[str, list[str]], limit: int) -> None:
    assert pages(rig, limit) == sorted((task_id for ids in made.values() for task_id in ids), reverse=True)


@pytest.mark.parametrize("limit", [1, 7, 100])
def test_all_of_too_many_to_sort(rig: BrokerRig, made: dict[str, list[str]], limit: int,
                                 monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "SORTED_MAX", 3)
    monkeypatch.setattr(search, "LOOK_TASKS", 5)
    found = pages(rig, limit)
    assert sorted(found) == sorted(task_id for ids in made.values() for task_id in ids)


def test_many_with_the_same_moment(rig: BrokerRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "LOOK_TASKS", 4)
    tasks = [rig.new() for _ in range(30)]
    rig.broker.submit(tasks)
    rig.broker.purge("q", 30)
    assert pages(rig, 3, status=TaskStatus.CANCELLED) == sorted((task.id for task in tasks), reverse=True)


def test_by_what_was_said_at_submit(rig: BrokerRig) -> None:
    one = rig.submit("q", TaskPriority.HIGH, name="report", tags=["a", "b"])
    two = rig.submit("x", tags=["b"])
    rig.broker.set_priority(two, TaskPriority.LOW)
    ended = rig.ended(queue="x")
    assert pages(rig, 10, name="report") == [one]
    assert pages(rig, 10, tag="b") == [two, one]
    assert pages(rig, 10, queue="x") == [ended, two]
    assert pages(rig, 10, queue="x", status=TaskStatus.QUEUED) == [two]
    assert pages(rig, 10, priority=TaskPriority.LOW) == [two]
    assert pages(rig, 10, priority=TaskPriority.LOW, status=TaskStatus.QUEUED) == [two]
    assert pages(rig, 10, task_type="t") == [ended, two, one]
    assert pages(rig, 10, task_type="other") == []


def test_a_page_looks_at_no_more_than_it_may(rig: BrokerRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "SCAN_MAX", 5)
    monkeypatch.setattr(search, "LOOK_TASKS", 5)
    first = rig.submit(name="rare")
    for _ in range(20):
        rig.submit()
    page = rig.broker.search(query_of({"name": "rare"}), 100)
    assert (page.tasks, page.cursor is None) == ([], False)
    assert pages(rig, 10, name="rare") == [first]


@pytest.mark.parametrize("cursor", [
    "nonsense", "1 2", "x y z", "0 nan-ish id", "c", "c-1,", "cx,", "c0,1", "c0,nan id", "c0,x id"])
def test_a_cursor_that_is_none(rig: BrokerRig, cursor: str) -> None:
    with pytest.raises(InvalidOption, match="not the cursor of a page"):
        rig.broker.search(query_of({"status": TaskStatus.FAILED}), 100, cursor)


@pytest.mark.parametrize("cursor", ["c0,x id", "c0,-1 id", f"c0,{1 << 64} id", "c0,1"])
def test_a_cursor_of_a_scan_that_is_none(rig: BrokerRig, cursor: str) -> None:
    with pytest.raises(InvalidOption, match="not the cursor of a page"):
        rig.broker.search(query_of({}), 100, cursor)


def searched(rig: BrokerRig, query: TaskQuery, limit: int) -> tuple[list[str], set[bool]]:
    """The ids of all pages, one after the other, and whether these were sorted."""
    ids: list[str] = []
    are_sorted: set[bool] = set()
    cursor = None
    while True:
        page = rig.broker.search(query, limit, cursor)
        assert len(page.tasks) <= limit
        ids += [stored.id for stored in page.tasks]
        are_sorted.add(page.is_sorted)
        cursor = page.cursor
        if cursor is None:
            return ids, are_sorted


@pytest.mark.parametrize("limit", [1, 7, 100])
@pytest.mark.parametrize("statuses", [(), (TaskStatus.RUNNING, TaskStatus.QUEUED, TaskStatus.FAILED)])
def test_in_order_over_several_collections(rig: BrokerRig, made: dict[str, list[str]], statuses: tuple[TaskStatus, ...],
                                           limit: int) -> None:
    ids = sorted(task_id for status in statuses or made for task_id in made[status])
    assert searched(rig, TaskQuery(statuses, order=Order.OLDEST), limit) == (ids, {True})
    assert searched(rig, TaskQuery(statuses), limit) == (ids[::-1], {True})


@pytest.mark.parametrize("limit", [1, 7, 100])
@pytest.mark.parametrize("statuses", [
    (), (TaskStatus.RUNNING,), (TaskStatus.RUNNING, TaskStatus.PENDING, TaskStatus.RETRYING, TaskStatus.FAILED)])
def test_too_many_to_sort_come_once_each(rig: BrokerRig, made: dict[str, list[str]], statuses: tuple[TaskStatus, ...],
                                         limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "SORTED_MAX", 3)
    monkeypatch.setattr(search, "LOOK_TASKS", 2)
    ids, are_sorted = searched(rig, TaskQuery(statuses), limit)
    assert sorted(ids) == sorted(task_id for status in statuses or made for task_id in made[status])
    assert are_sorted == {False}


def test_what_was_set_aside_is_looked_for_among_the_failed(rig: BrokerRig, made: dict[str, list[str]]) -> None:
    assert searched(rig, TaskQuery(quarantined=True), 10)[0] == []
    assert len(searched(rig, TaskQuery(quarantined=False), 100)[0]) == sum(map(len, made.values()))
