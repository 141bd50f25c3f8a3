"""One suite for both brokers of a client, Redis's and the inline engine's: what holds of tasks that no worker takes."""

from collections.abc import Iterator
from typing import Any

import pytest

from engine import Client, TaskPriority, TaskStatus
from engine.errors import EngineError, InvalidOption, MoveRefused, ResultNotReady, TaskCancelled, TaskNotFound
from engine.testing import Inline

NOWHERE = "0" * 19


@pytest.fixture(params=["redis", "inline"])
def client(request: pytest.FixtureRequest) -> Iterator[Client]:
    if request.param == "redis":
        with Client(request.getfixturevalue("redis_url")) as client:
            yield client
    else:
        with Inline(eager=False) as inline:
            for name in ("x", "y", "thumbnail"):
                inline.register_handler(name, lambda payload: payload)
            yield inline


def test_a_task_is_as_it_was_submitted(client: Client) -> None:
    task_id = client.submit("x", {"id": 7}, name="cover", queue="images", priority="urgent", timeout=30,
                            tags=["a", "b"], fair_key="user", expires=3600)
    task = client.get(task_id)
    assert (task.id, task.name, task.task_type, task.queue) == (task_id, "cover", "x", "images")
    assert (task.status, task.priority, task.payload) == (TaskStatus.QUEUED, TaskPriority.URGENT, {"id": 7})
    assert (task.tags, task.fair_key, task.run, task.result, task.error) == (["a", "b"], "user", 0, None, None)
    assert task.expires_at is not None
    assert (task.expires_at - task.created_at).total_seconds() == pytest.approx(3600, abs=30)
    assert client.status(task_id) is TaskStatus.QUEUED


def test_a_delayed_task_is_pending(client: Client) -> None:
    task = client.get(client.submit("x", delay=60))
    assert task.status is TaskStatus.PENDING
    assert task.due_at is not None
    assert (task.due_at - task.created_at).total_seconds() == pytest.approx(60, abs=30)


def test_many_are_submitted_in_order(client: Client) -> None:
    ids = client.submit_many({"task_type": "x", "payload": n, "delay": n % 3} for n in range(700))
    assert [client.get(task_id).payload for task_id in ids[:5]] == [0, 1, 2, 3, 4]
    assert client.status(ids[698]) is TaskStatus.PENDING
    assert client.queue_stats()[0].total == 234
    assert client.counts()["PENDING"] == 466
    assert client.submit_many([]) == []


def test_an_idempotency_key_stands_for_the_first_task(client: Client) -> None:
    first = client.submit("x", 1, idempotency_key="order 7")
    assert client.submit("x", 2, idempotency_key="order 7") == first
    assert client.submit_many([{"task_type": "x", "idempotency_key": "order 7"}, {"task_type": "x"}])[0] == first
    assert client.get(first).payload == 1


def test_an_idempotency_key_of_one_queue_means_nothing_in_another(client: Client) -> None:
    first = client.submit("x", 1, queue="a", idempotency_key="order 7")
    second = client.submit("x", 2, queue="b", idempotency_key="order 7")
    assert first != second
    assert client.get(second).payload == 2
    many = [{"task_type": "x", "queue": queue, "idempotency_key": "order 7"} for queue in ("b", "a", "c", "c")]
    ids = client.submit_many(many)
    assert ids[:2] == [second, first]
    assert ids[2] == ids[3] not in (first, second)


def test_tasks_are_found_by_what_they_are(client: Client) -> None:
    ids = client.submit_many({"task_type": "xy"[n % 2], "payload": n, "tags": [f"t{n}"], "name": f"n{n}",
                              "priority": n % 4} for n in range(8))
    assert [task.id for task in client.tasks()] == ids[::-1]
    assert {task.id for task in client.tasks(type="x", status="queued")} == set(ids[::2])
    assert [task.id for task in client.tasks(tag="t3")] == [ids[3]]
    assert [task.id for task in client.tasks(name="n4", task_type="x", priority="low")] == [ids[4]]
    assert len(client.tasks(limit=3)) == 3
    pages, cursor = client.page(limit=5)
    rest, _ = client.page(limit=5, cursor=cursor)
    assert [task.id for task in pages + rest] == ids[::-1]
    with pytest.raises(InvalidOption, match="'bogus' is not"):
        client.page(status="queued", cursor="bogus")


def test_a_waiting_task_is_cancelled_and_retried(client: Client) -> None:
    task_id = client.submit("x")
    assert client.cancel(task_id, "changed my mind") is TaskStatus.CANCELLED
    task = client.get(task_id)
    assert (task.cause, task.error and task.error.message) == ("cancelled", "changed my mind")
    with pytest.raises(TaskCancelled, match="changed my mind"):
        client.result(task_id)
    with pytest.raises(MoveRefused):
        client.cancel(task_id)
    client.retry(task_id)
    assert client.status(task_id) is TaskStatus.QUEUED
    with pytest.raises(MoveRefused):
        client.retry(task_id)
    client.cancel(task_id)
    assert client.retry_many(status="cancelled", type="x") == [task_id]
    assert client.retry_many() == []


def test_priority_pause_and_purge(client: Client) -> None:
    ids = client.submit_many({"task_type": "x", "queue": "q"} for _ in range(1200))
    client.set_priority(ids[0], "high")
    client.pause("q")
    stats = client.queue_stats()
    assert [(one.queue, one.paused, one.queued["HIGH"], one.queued["NORMAL"]) for one in stats] == [
        ("q", True, 1, 1199)]
    assert (stats[0].oldest_s or 0) >= 0
    client.resume("q")
    assert client.purge("q") == 1200
    assert client.counts()["CANCELLED"] == 1200
    assert client.delete(ids) == 1200
    assert client.tasks() == []
    with pytest.raises(InvalidOption):
        client.pause("no queue")


@pytest.mark.parametrize("task_id", [NOWHERE, "", "x", "not an id at all", "0" * 18 + "U", None, 7])
def test_an_id_that_there_is_not(client: Client, task_id: Any) -> None:
    for ask in (client.get, client.status, client.result, client.cancel, client.retry, client.logs, client.outcomes,
                lambda one: client.set_priority(one, "high"), lambda one: client.wait([one])):
        with pytest.raises(TaskNotFound, match="no task has the id"):
            ask(task_id)


# -- results as they come ---------------------------------------------------------------------------------------------


def test_tasks_are_given_as_they_end_each_once(client: Client) -> None:
    first, second, third = client.submit_many({"task_type": "x", "payload": n, "delay": 60} for n in range(3))
    client.cancel(second)
    given = client.as_completed([first, second, second, third])
    assert next(given).id == second
    client.cancel(third)
    client.cancel(first)
    assert {task.id for task in given} == {first, third}
    assert list(client.as_completed([])) == []


def test_those_that_have_not_ended_in_time_are_counted(client: Client) -> None:
    over, *rest = client.submit_many({"task_type": "x", "payload": n, "delay": 60} for n in range(3))
    client.cancel(over)
    for timeout in (0, 0.01):
        given = client.as_completed([over, *rest], timeout)
        assert next(given).id == over
        with pytest.raises(ResultNotReady, match=r"PENDING after .* s \(2 tasks have not ended\)"):
            next(given)


def test_no_task_of_that_id_is_said_before_anything_is_waited_for(client: Client) -> None:
    queued = client.submit("x", delay=60)
    for given in (client.as_completed([queued, NOWHERE]), client.results([NOWHERE, queued])):
        with pytest.raises(TaskNotFound):
            next(given)
    with pytest.raises(TaskNotFound):
        client.as_completed(["no id"])


def test_results_come_in_the_order_of_their_ids(client: Client) -> None:
    queued = client.submit_many({"task_type": "x", "payload": n, "delay": 60} for n in range(2))
    client.cancel(queued[1], "why")
    given = client.results(queued, timeout=0.01)
    with pytest.raises(ResultNotReady):
        next(given)
    client.cancel(queued[0], "first")
    with pytest.raises(TaskCancelled, match="first"):
        next(client.results(queued))


def test_an_engine_without_supervisors_tells_so(client: Client) -> None:
    assert client.workers() == client.workers.supervisors(alive_only=False) == client.processes() == []
    assert client.workers.usage_history("nowhere", 1) == []
    assert client.workers.send("nobody", {"do": "level", "level": "DEBUG"}) is False
    assert client.engine.control({"do": "restart"}) == 0
    with pytest.raises(EngineError, match="there is no supervisor nobody"):
        client.workers.stacks("nobody", 0, 1.0)


def test_a_task_that_is_prepared_is_checked_and_not_written(client: Client) -> None:
    prepared = client.tasks.prepare({"task_type": "x", "payload": 7, "queue": "q"})
    assert (prepared.record.task_type, prepared.record.queue, prepared.record.payload) == ("x", "q", b"7")
    with pytest.raises(InvalidOption, match="queue"):
        client.tasks.prepare({"task_type": "x", "queue": "no queue"})
    with pytest.raises(TaskNotFound):
        client.get(prepared.id)
    assert client.tasks.find() == client.tasks() == []
