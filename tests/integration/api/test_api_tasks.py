"""The API's tasks, with a real engine: submitted, looked at, changed, cancelled, run again."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.api.api_kit import PATIENCE_S, Engine

NOBODY = "0" * 19


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    running = Engine()
    yield running
    running.close()


@pytest.fixture
def http(engine: Engine) -> httpx.Client:
    return engine.http


@pytest.fixture
def held(engine: Engine, tmp_path: Path) -> Iterator[tuple[str, Callable[[], None]]]:
    """A task that runs until the test lets it go; its id, and how to let it go."""
    until = tmp_path / "until"
    os.mkfifo(until)
    task_id = engine.submit("held", {"until": str(until)})["id"]
    end = os.open(until, os.O_WRONLY)  # returns when the handler reads
    ends = [end]

    def let_go() -> None:
        while ends:
            os.close(ends.pop())

    yield task_id, let_go
    let_go()


@pytest.fixture
def paused(http: httpx.Client) -> Iterator[str]:
    """A queue from which nothing is started."""
    assert http.post("/queues/halt/pause").status_code == 200
    yield "halt"
    http.post("/queues/halt/purge")


def test_a_task_is_submitted_run_and_seen(engine: Engine, http: httpx.Client) -> None:
    answer = http.post("/tasks", json={"name": "twice 21", "task_type": "double", "payload": {"number": 21},
                                       "priority": "high", "tags": ["a"], "timeout": 30})
    assert answer.status_code == 201
    task = answer.json()
    assert (task["status"], task["priority"], task["name"], task["tags"]) == ("QUEUED", "HIGH", "twice 21", ["a"])
    assert answer.headers["location"] == f"/api/v1/tasks/{task['id']}"
    result = http.get(f"/tasks/{task['id']}/result", params={"wait": PATIENCE_S})
    assert result.json() == {"id": task["id"], "status": "COMPLETED", "result": {"doubled": 42}, "error": None,
                             "cause": "returned"}
    seen = http.get(f"/tasks/{task['id']}").json()
    assert seen["result"] == {"doubled": 42}
    assert seen["cpu_s"] >= 0
    state = http.get(f"/tasks/{task['id']}/status").json()
    assert state == {"id": task["id"], "status": "COMPLETED", "run": 1, "progress": None}


def test_each_run_is_told(engine: Engine, http: httpx.Client) -> None:
    task = engine.run("retried", {})
    runs = http.get(f"/tasks/{task['id']}/runs").json()
    assert [(run["run"], run["cause"], run["error"]["kind"]) for run in runs] == [
        (1, "raised", "ValueError"), (2, "raised", "ValueError")]
    assert task["status"] == "FAILED"
    died = engine.run("die", {})
    run = http.get(f"/tasks/{died['id']}/runs").json()[-1]
    assert run["cause"] == "killed"
    assert run["post_mortem"]["signal"] == "SIGABRT"


def test_a_running_task_shows_its_progress_and_is_cancelled(
        held: tuple[str, Callable[[], None]], http: httpx.Client) -> None:
    task_id, _ = held
    while (state := http.get(f"/tasks/{task_id}/status").json())["progress"] is None:
        assert http.get(f"/tasks/{task_id}/result", params={"wait": 0.2}).status_code == 409  # it waits in the server
    assert state["status"] == "RUNNING"
    assert state["progress"]["fraction"] == 0.5
    not_yet = http.get(f"/tasks/{task_id}/result")
    assert (not_yet.status_code, not_yet.json()["task_status"]) == (409, "RUNNING")
    assert http.get(f"/tasks/{task_id}/runs").json()[0]["is_running"]
    refused = http.patch(f"/tasks/{task_id}", json={"priority": "low"})
    assert (refused.status_code, refused.json()["task_status"]) == (409, "RUNNING")
    assert http.post(f"/tasks/{task_id}/cancel", json={"reason": "enough"}).json()["status"] == "RUNNING"
    ended = http.get(f"/tasks/{task_id}/result", params={"wait": PATIENCE_S}).json()
    assert (ended["status"], ended["error"]["message"]) == ("CANCELLED", "enough")


def test_a_long_poll_answers_when_the_task_ends(
        held: tuple[str, Callable[[], None]], http: httpx.Client) -> None:
    task_id, let_go = held
    let_go()
    assert http.get(f"/tasks/{task_id}/result", params={"wait": PATIENCE_S}).json()["result"] == "let go"


def test_a_task_that_waits_is_changed_by_version(engine: Engine, http: httpx.Client, paused: str) -> None:
    task = engine.submit("double", {"number": 1}, queue=paused)
    url = f"/tasks/{task['id']}"
    version = http.get(url).headers["etag"]
    changed = http.patch(url, json={"priority": "urgent", "name": "new", "timeout": 5}, headers={"If-Match": version})
    assert changed.status_code == 200, changed.text
    assert (changed.json()["priority"], changed.json()["name"]) == ("URGENT", "new")
    assert changed.headers["etag"] != version
    late = http.patch(url, json={"name": "newer"}, headers={"If-Match": version})
    assert late.status_code == 412
    assert http.patch(url, json={"name": None}).json()["name"] is None
    queues = {stats["queue"]: stats["queued"] for stats in http.get("/queues").json()}
    assert queues[paused]["URGENT"] == 1


@pytest.mark.parametrize("delay", [None, 3600])
def test_versions_are_those_of_http(http: httpx.Client, paused: str, delay: float | None) -> None:
    made = http.post("/tasks", json={"task_type": "double", "queue": paused, "delay": delay})
    url, version = f"/tasks/{made.json()['id']}", made.headers["etag"]
    assert http.get(url).headers["etag"] == version, "nothing has changed since its submit"
    for header in (version, f'"another", {version}', f"W/{version}", "*"):
        same = http.get(url, headers={"If-None-Match": header})
        assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", version)
    assert http.get(url, headers={"If-None-Match": '"another"'}).status_code == 200
    changed = http.patch(url, json={"name": "new"}, headers={"If-Match": f'"another", {version}'})
    assert changed.status_code == 200, changed.text
    assert http.get(url, headers={"If-None-Match": version}).headers["etag"] == changed.headers["etag"] != version
    assert http.patch(url, json={"name": "newer"}, headers={"If-Match": f'"another", {version}'}).status_code == 412


def test_what_waits_is_cancelled_at_once_and_run_again(engine: Engine, http: httpx.Client, paused: str) -> None:
    task_id = engine.submit("double", {"number": 1}, queue=paused)["id"]
    assert http.post(f"/tasks/{task_id}/cancel").json()["status"] == "CANCELLED"
    again = http.post(f"/tasks/{task_id}/cancel")
    assert (again.status_code, again.json()["task_status"]) == (409, "CANCELLED")
    assert http.post(f"/tasks/{task_id}/retry").json()["status"] == "QUEUED"
    assert http.post(f"/tasks/{task_id}/retry").status_code == 409


def test_the_same_idempotency_key_gives_the_first_task(http: httpx.Client) -> None:
    body = {"task_type": "double", "payload": {"number": 1}}
    first, second = (http.post("/tasks", json=body, headers={"Idempotency-Key": "once"}).json()["id"] for _ in "ab")
    third = http.post("/tasks", json={**body, "idempotency_key": "once"}).json()["id"]
    assert first == second == third


def test_an_idempotency_key_never_stands_for_another_task(http: httpx.Client) -> None:
    def post(body: dict[str, Any], key: str = "order-42") -> httpx.Response:
        return http.post("/tasks", json=body, headers={"Idempotency-Key": key})

    first = {"task_type": "double", "payload": {"number": 1, "more": [2]}, "queue": "halt"}
    task_id = post(first).json()["id"]
    assert post({**first, "payload": {"more": [2], "number": 1}, "name": "changed"}).json()["id"] == task_id
    for other in ({"payload": {"number": 2}}, {"task_type": "fail"}):
        answer = post({**first, **other})
        assert (answer.status_code, answer.json()["field"]) == (409, "idempotency_key")
    assert post({**first, "queue": "elsewhere"}).json()["id"] != task_id
    differs = post({**first, "idempotency_key": "order-43"})
    assert (differs.status_code, "differ" in differs.json()["detail"]) == (422, True)
    assert post({**first, "idempotency_key": "order-42"}).json()["id"] == task_id


def test_a_batch_tells_of_keys_that_stand_for_other_tasks(http: httpx.Client) -> None:
    first, other = ({"task_type": "double", "payload": {"number": n}, "queue": "halt", "idempotency_key": "batch"}
                    for n in (1, 2))
    answer = http.post("/tasks/batch", json={"tasks": [first, other, first]})
    assert answer.status_code == 207
    items = answer.json()["items"]
    assert [item["status"] for item in items] == [201, 409, 201]
    assert items[0]["id"] == items[2]["id"]
    key = {"idempotency_key": "none of them"}
    refused = http.post("/tasks/batch", json={"all_or_nothing": True, "tasks": [{**first, **key}, {**other, **key}]})
    assert (refused.status_code, refused.json()["field"]) == (409, "tasks[1].idempotency_key")
    assert http.post("/tasks", json={**other, **key}).status_code == 201, "nothing had been written"


@pytest.mark.parametrize(("method", "path"), [
    ("GET", ""), ("GET", "/status"), ("GET", "/result"), ("GET", "/runs"), ("GET", "/logs"), ("PATCH", ""),
    ("POST", "/cancel"), ("POST", "/retry")])
@pytest.mark.parametrize("task_id", [NOBODY, "nonsense", "%00", "..%2f..%2fetc"])
def test_a_task_that_there_is_not(http: httpx.Client, method: str, path: str, task_id: str) -> None:
    answer = http.request(method, f"/tasks/{task_id}{path}", json={} if method == "PATCH" else None)
    assert answer.status_code == 404, answer.text
    assert answer.headers["content-type"] == "application/problem+json"


def test_an_unknown_handler_is_named_with_its_neighbour(http: httpx.Client) -> None:
    answer = http.post("/tasks", json={"task_type": "duoble"})
    assert answer.status_code == 422
    assert answer.json()["field"] == "task_type"
    assert "did you mean 'double'?" in answer.json()["detail"]
