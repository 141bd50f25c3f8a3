"""The API's view of the engine: queues, batches, searches, events, workers, metrics, control; all of it real."""

import itertools
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.api.api_kit import PATIENCE_S, Engine


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    running = Engine()
    yield running
    running.close()


@pytest.fixture
def http(engine: Engine) -> httpx.Client:
    return engine.http


@pytest.fixture
def halt(http: httpx.Client, request: pytest.FixtureRequest) -> Iterator[str]:
    """A queue of the test's own, from which nothing is started."""
    queue = request.node.name.replace("[", "-").replace("]", "")[:60]
    http.post(f"/queues/{queue}/pause")
    yield queue
    http.post(f"/queues/{queue}/purge")


@contextmanager
def listening(engine: Engine, path: str, headers: dict[str, str] | None = None, **query: Any) -> Iterator[Any]:
    """The server-sent events of a path, as (kind, id, data)."""
    with engine.http.stream("GET", path, params=query, headers=headers) as answer:
        assert answer.status_code == 200, answer.read()
        lines = answer.iter_lines()
        assert next(lines).startswith("retry") or path.endswith("logs")
        yield messages(lines)


def messages(lines: Iterator[str]) -> Iterator[tuple[str, str | None, Any]]:
    found: dict[str, str] = {}
    for line in lines:
        if line and not line.startswith(":"):
            name, _, value = line.partition(": ")
            found[name] = value
        elif found:
            if "data" in found:
                yield found["event"], found.get("id"), json.loads(found["data"])
            found = {}


def test_a_batch_tells_of_each_item(engine: Engine, http: httpx.Client, halt: str) -> None:
    tasks = [{"task_type": "double", "payload": {"number": n}, "queue": halt} for n in range(3)]
    answer = http.post("/tasks/batch", json={"tasks": tasks})
    assert answer.status_code == 201
    assert answer.json()["submitted"] == 3
    mixed = http.post("/tasks/batch", json={"tasks": [*tasks[:1], {"task_type": "nobody", "queue": halt}]})
    assert mixed.status_code == 207
    items = mixed.json()["items"]
    assert [item["status"] for item in items] == [201, 422]
    assert items[1]["problem"]["field"] == "task_type"
    bad = [{"task_type": "double", "delay": -1}, {"task_type": 7}, "no object", {"task_type": "double", "proirity": 1}]
    malformed = http.post("/tasks/batch", json={"tasks": [*bad, {**tasks[0], "queue": "elsewhere"}]})
    assert (malformed.status_code, malformed.json()["submitted"], malformed.json()["refused"]) == (207, 1, 4)
    fields = [item["problem"] and item["problem"]["field"] for item in malformed.json()["items"]]
    assert fields == ["delay", "task_type", "body", "proirity", None]
    none = http.post("/tasks/batch", json={"tasks": [*tasks, {"task_type": "nobody"}], "all_or_nothing": True})
    assert (none.status_code, none.json()["field"]) == (422, "tasks[3].task_type")
    assert http.get("/tasks", params={"queue": halt}).json()["tasks"].__len__() == 4


def test_pages_are_stable_while_tasks_come_and_go(engine: Engine, http: httpx.Client, halt: str) -> None:
    ids = [engine.submit("double", {"number": n}, queue=halt, tags=["odd"] if n % 2 else [])["id"] for n in range(7)]
    seen, cursor = [], None
    while True:
        page = http.get("/tasks", params={"queue": halt, "limit": 3, **({"cursor": cursor} if cursor else {})}).json()
        seen += [task["id"] for task in page["tasks"]]
        engine.submit("double", {"number": 0}, queue=halt)
        cursor = page["next"]
        if cursor is None:
            break
    assert seen == ids[::-1]
    odd = http.post("/tasks/search", json={"queue": halt, "tags": ["odd"], "sort": "created"}).json()
    assert [task["id"] for task in odd["tasks"]] == ids[1::2]


@pytest.mark.parametrize(("filters", "found"), [
    ({"status": ["QUEUED"]}, {0, 1}), ({"status": ["COMPLETED"]}, set()), ({"priority": "high"}, {0}),
    ({"name": "the first"}, {0}), ({"text": "FIRST"}, {0}), ({"text": "\"number\":7"}, {1}),
    ({"created_after": "2020-01-01T00:00:00Z"}, {0, 1}), ({"created_before": "2020-01-01T00:00:00Z"}, set()),
    ({"ended_after": "2020-01-01T00:00:00Z"}, set()), ({"task_type": "double"}, {0, 1})])
def test_searches(engine: Engine, http: httpx.Client, halt: str, filters: dict[str, Any], found: set[int]) -> None:
    ids = [engine.submit("double", {"number": 1}, queue=halt, priority="high", name="the first")["id"],
           engine.submit("double", {"number": 7}, queue=halt)["id"]]
    page = http.post("/tasks/search", json={"queue": halt, **filters}).json()
    assert {ids.index(task["id"]) for task in page["tasks"]} == found


def test_operations_by_filter_count_before_they_act(engine: Engine, http: httpx.Client, halt: str) -> None:
    for number in range(3):
        engine.submit("double", {"number": number}, queue=halt)
    body = {"filter": {"queue": halt}, "dry_run": True}
    report = http.post("/tasks/batch/cancel", json=body).json()
    assert report == {"matched": 3, "done": 0, "dry_run": True, "is_complete": True}
    body["dry_run"] = False
    assert http.post("/tasks/batch/priority", json={**body, "priority": "urgent"}).json()["done"] == 3
    assert http.post("/tasks/batch/cancel", json=body).json()["done"] == 3
    assert http.post("/tasks/batch/retry", json={**body, "limit": 2}).json() == {
        "matched": 2, "done": 2, "dry_run": False, "is_complete": False}
    assert http.post("/tasks/batch/delete", json=body).json()["done"] == 1
    assert http.post(f"/queues/{halt}/purge").json()["purged"] == 2


def test_queues_are_told_paused_and_purged(engine: Engine, http: httpx.Client, halt: str) -> None:
    engine.submit("double", {"number": 1}, queue=halt, priority="low")
    stats = next(stats for stats in http.get("/queues").json() if stats["queue"] == halt)
    assert (stats["paused"], stats["queued"]["LOW"]) == (True, 1)
    totals = http.get("/queue/stats").json()
    assert totals["queued"]["LOW"] >= 1
    assert totals["statuses"]["QUEUED"] >= 1
    assert http.post(f"/queues/{halt}/resume").json() == {"queue": halt, "paused": False, "purged": None}


def test_every_change_of_status_is_told_and_none_is_lost(engine: Engine, http: httpx.Client) -> None:
    with listening(engine, "/events") as events:
        earlier, task_id = engine.run("double", {"number": 0})["id"], None
        told: list[tuple[str, str, int]] = []
        before = None
        for kind, entry_id, data in events:
            if task_id is None:
                before = entry_id or before
                if (data["id"], data["status"]) == (earlier, "COMPLETED"):
                    task_id = engine.submit("double", {"number": 1})["id"]
            elif data["id"] == task_id:
                told.append((kind, data["status"], data["run"]))
                if data["status"] == "COMPLETED":
                    break
    changes = [("status", "QUEUED", 0), ("status", "RUNNING", 1), ("status", "COMPLETED", 1)]
    assert told == changes
    with listening(engine, "/events", {"Last-Event-ID": before}, task_id=task_id) as events:
        assert [(kind, data["status"], data["run"]) for kind, _, data in itertools.islice(events, 3)] == changes
    with listening(engine, "/events", {"Last-Event-ID": "0-0"}, queue="default", task_type="double",
                   status="COMPLETED") as events:
        assert next(events)[2]["task_type"] == "double"
    with listening(engine, "/events", {"Last-Event-ID": "1-0"}) as events:
        assert next(events)[0] == "gap", "what was told then is not kept any more"
    assert http.get("/events", headers={"Last-Event-ID": "nonsense"}).status_code == 422


def test_lines_of_a_log_are_told_as_they_are_written(engine: Engine, http: httpx.Client, tmp_path: Path) -> None:
    until = tmp_path / "until"
    os.mkfifo(until)
    task_id = engine.submit("held", {"until": str(until)})["id"]
    end = os.open(until, os.O_WRONLY)
    with listening(engine, f"/tasks/{task_id}/logs", follow=True) as lines:
        kind, _, line = next(lines)
        assert (kind, line["text"].strip(), line["stream"], line["run"]) == ("line", "it is held", "stdout", 1)
        os.close(end)
        assert [kind for kind, _, _ in lines][-1] == "end"
    assert http.get(f"/tasks/{task_id}/logs").json()[0]["text"].strip() == "it is held"


def test_the_engine_tells_how_it_is(engine: Engine, http: httpx.Client) -> None:
    status = http.get("/scheduler/status").json()
    assert status["workers"] == 2
    assert status["pools"][0]["pool"] == "default"
    whole = until(http, "/scheduler/status", lambda told: len(told["tree"]) >= 5)
    assert {"ganger: root", "ganger: api"} <= {one["title"].strip() for one in whole["tree"]}
    health = http.get("/scheduler/health")
    assert (health.status_code, health.json()["ready"]) == (200, True)
    rows = until(http, "/scheduler/logs?level=INFO&process=root", lambda told: any(
        row["message"] == "ready" for row in told["entries"]))
    assert {row["process"] for row in rows["entries"]} == {"root"}
    assert http.get("/scheduler/logs", params={"level": "CRITICAL"}).json()["entries"] == []
    assert http.get("/scheduler/logs", params={"until": "2020-01-01T00:00:00Z"}).json()["entries"] == []


def test_what_ended_is_counted_and_timed(engine: Engine, http: httpx.Client) -> None:
    engine.run("double", {"number": 1})
    engine.run("fail", {})
    told = until(http, "/scheduler/metrics?window_s=600", lambda told: told["by_type"].get("fail"))
    assert told["by_type"]["fail"]["by_cause"] == {"raised": told["by_type"]["fail"]["ended"]}
    assert told["by_type"]["double"]["success_rate"] == 1
    assert told["total"]["run_s"]["p99"] > 0
    assert told["sampled"] == 1
    text = http.get(engine.url.replace("/api/v1", "/metrics")).text
    assert 'ganger_tasks_ended_total{cause="raised",queue="default",status="FAILED"}' in text
    assert "ganger_redis_up 1.0" in text
    assert 'ganger_queue_tasks{priority="HIGH",queue="default"}' in text
    assert "ganger_task_run_seconds_bucket" in text


def test_workers_tell_their_stacks_and_are_replaced(engine: Engine, http: httpx.Client, tmp_path: Path) -> None:
    path = tmp_path / "until"
    os.mkfifo(path)
    task_id = engine.submit("held", {"until": str(path)})["id"]
    end = os.open(path, os.O_WRONLY)
    busy = next(one for one in until(http, "/workers", lambda told: any(
        (one["task"] or {}).get("id") == task_id for one in told)) if (one["task"] or {}).get("id") == task_id)
    url = f"/workers/{busy['id']}"
    stack = http.post(f"{url}/stack")
    assert stack.status_code == 200, stack.text
    assert "held" in stack.json()["stacks"]
    assert http.post(f"{url}/restart", json={"at_once": True}).status_code == 202
    until(http, url, lambda told: told["pid"] not in (None, busy["pid"]))
    until(http, f"/tasks/{task_id}", lambda told: told["run"] == 2)  # it was given back and runs again
    os.close(end)
    ended = http.get(f"/tasks/{task_id}/result", params={"wait": PATIENCE_S}).json()
    assert ended["result"] == "let go"
    assert http.get(f"/tasks/{task_id}").json()["attempts"] == 0
    assert until(http, url, lambda told: told["history"])["history"][0]["rss_bytes"]
    assert http.get("/workers/nobody/0").status_code == 404


def test_the_engine_is_told_what_to_do(engine: Engine, http: httpx.Client) -> None:
    def tell(**order: Any) -> dict[str, Any]:
        answer = http.post("/scheduler/control", json=order)
        assert answer.status_code == 202, answer.text
        told: dict[str, Any] = answer.json()
        return told

    assert tell(action="pause")["queues"] >= 1
    assert http.get("/scheduler/status").json()["is_paused"]
    tell(action="resume")
    pool = http.get("/scheduler/status").json()["pools"][0]["pid"]
    tell(action="scale", workers="auto")
    until(http, "/scheduler/status", lambda told: told["pools"][0]["scale"] == "auto")
    assert tell(action="scale", workers=1) == {"action": "scale", "engines": 1, "queues": 0}
    until(http, "/scheduler/status", lambda told: told["workers"] == 1 and len(told["pools"]) == 1)
    assert http.get("/scheduler/status").json()["pools"][0]["pid"] == pool, "it is still the same"
    assert [(one["frozen"], one["has_place"]) for one in http.get("/workers").json()] == [(False, True)]
    assert http.post("/scheduler/control", json={"action": "scale", "workers": "many"}).status_code == 422
    tell(action="drain")
    until(http, "/scheduler/health", lambda told: told["reasons"] == ["no pool is running"])
    assert http.get("/scheduler/health").status_code == 503
    assert http.get("/scheduler/health", params={"probe": "live"}).status_code == 200
    tell(action="start")
    until(http, "/scheduler/health", lambda told: told["ready"])
    assert engine.run("double", {"number": 4})["result"] == {"doubled": 8}
    answer = http.post("/scheduler/control", json={"action": "scale"})
    assert (answer.status_code, answer.json()["field"]) == (422, "workers")


def test_orders_that_come_before_the_last_one_is_done(engine: Engine, http: httpx.Client) -> None:
    """Successors that are not ready are given up for younger ones, stopped, started again: one pool is left."""
    for action in ("restart", "restart", "stop", "start", "restart", "drain", "restart", "start", "restart"):
        assert http.post("/scheduler/control", json={"action": action}).status_code == 202
    engine.await_line(lambda row: row["message"] == "asked" and len(orders(engine)) == 9)
    until(http, "/scheduler/status", lambda told: len(told["pools"]) == 1 and told["workers"] == 1)
    assert engine.run("double", {"number": 4})["result"] == {"doubled": 8}
    assert engine.process.poll() is None


def orders(engine: Engine) -> list[dict[str, Any]]:
    """Of the burst, as the root has heard them."""
    asked = [row["order"] for row in engine.said if row["message"] == "asked"]
    return asked[-9:] if asked and asked[-1]["do"] == "restart" else []


def until(http: httpx.Client, path: str, holds: Callable[[Any], Any]) -> Any:
    """Ask until it holds; in between listen to what happens for a moment, so that this machine has time for it."""
    end_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < end_s:
        told = http.get(path).json()
        if holds(told):
            return told
        http.get("/events", params={"seconds": 0.1})
    raise AssertionError(f"{path} still says {told}")
