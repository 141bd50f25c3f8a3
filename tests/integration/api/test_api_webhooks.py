"""Webhooks and traces: what the API tells others of the ends of tasks, to real receivers on this host."""

import base64
import contextlib
import hashlib
import hmac
import json
import socket
import threading
from collections.abc import Iterator

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.integration.api.api_kit import Engine
from tests.integration.api.receiver import Received, Receiver
from tests.redis_server import RedisServer

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


@pytest.fixture(scope="module")
def collector() -> Iterator[Receiver]:
    """Where spans are exported to."""
    with Receiver() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def engine(collector: Receiver) -> Iterator[Engine]:
    running = Engine(variables={"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "50"},
                     webhooks_private=True, webhooks_retry_s=0.01)
    yield running
    running.close()


@pytest.fixture
def http(engine: Engine) -> httpx.Client:
    return engine.http


def is_signed(message: Received, secret: str) -> bool:
    """As a receiver checks it, by the text of Standard Webhooks."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    content = f"{message.headers['webhook-id']}.{message.headers['webhook-timestamp']}.".encode() + message.body
    expected = base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
    return message.headers["webhook-signature"] == f"v1,{expected}"


def test_the_end_of_a_task_is_told_signed_and_again_until_it_arrives(engine: Engine, http: httpx.Client) -> None:
    secret = http.get("/webhook/secret").json()["secret"]
    with Receiver(500, 503) as receiver:
        task = engine.submit("fail", {"message": "no"}, tags=["a"], webhook={
            "url": f"{receiver.url}/hook?x=1", "on": ["FAILED"]})
        tries = [receiver.next() for _ in range(3)]
        assert len({(one.headers["webhook-id"], one.body) for one in tries}) == 1
        assert all(is_signed(one, secret) for one in tries)
        assert tries[0].path == "/hook?x=1"
        told = json.loads(tries[0].body)
        assert told["type"] == "task.failed"
        assert (told["data"]["id"], told["data"]["cause"], told["data"]["tags"]) == (task["id"], "raised", ["a"])
        assert told["data"]["error"]["message"] == "no"
        engine.await_line(lambda row: row["message"] == "a webhook was delivered" and row["task_id"] == task["id"])
        assert task["id"] not in {one["task_id"] for one in http.get("/webhook/deliveries").json()}
        assert receiver.is_quiet


def test_a_webhook_hears_of_what_it_asked_for(engine: Engine, http: httpx.Client) -> None:
    with Receiver() as receiver:
        hook = http.post("/webhooks", json={"url": receiver.url, "on": ["COMPLETED"], "task_type": "double",
                                            "queue": "hooked", "tag": "mine"}).json()
        for options in ({"queue": "other", "tags": ["mine"]}, {"queue": "hooked"}):
            engine.run("double", {"number": 1}, **options)
        engine.run("fail", {}, queue="hooked", tags=["mine"])
        task = engine.run("double", {"number": 1}, queue="hooked", tags=["mine"])
        message = receiver.next()
        assert json.loads(message.body)["data"]["id"] == task["id"]
        assert is_signed(message, hook["secret"])
        assert [one["secret"] for one in http.get("/webhooks").json() if one["id"] == hook["id"]] == [None]
        assert http.delete(f"/webhooks/{hook['id']}").status_code == 204
        assert http.delete(f"/webhooks/{hook['id']}").status_code == 404
        assert receiver.is_quiet


def test_what_cannot_be_delivered_waits_and_is_given_up_where_nobody_wants_it(
        engine: Engine, http: httpx.Client) -> None:
    with Receiver(410) as receiver:
        engine.submit("double", {"number": 1}, webhook={"url": receiver.url})
        receiver.next()
    assert engine.await_line(lambda row: row["message"] == "a webhook was given up")["reason"] == "the answer was 410"
    gone = engine.submit("double", {"number": 1}, webhook={"url": receiver.url})  # nobody listens there any more
    engine.await_line(lambda row: row["message"] == "a webhook did not arrive" and row["task_id"] == gone["id"]
                      and row["tries"] > 1)
    waiting = [one for one in http.get("/webhook/deliveries").json() if one["task_id"] == gone["id"]]
    assert waiting[0]["tries"] > 1
    assert "refused" in waiting[0]["last_error"].lower()


def test_each_try_counts_whatever_the_receiver_does(engine: Engine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        gone = threading.Event()

        def serve() -> None:
            while not gone.is_set():
                with contextlib.suppress(OSError):
                    connection, _ = listener.accept()
                    connection.recv(65_536)
                    connection.sendall(b"X" * 20_000)
                    connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        task = engine.submit("double", {"number": 1}, webhook={"url": f"http://127.0.0.1:{listener.getsockname()[1]}/"})
        for tries in (1, 2, 3):
            engine.await_line(lambda row, tries=tries: row["message"] == "a webhook did not arrive"
                              and (row["task_id"], row["tries"]) == (task["id"], tries))
        gone.set()
        socket.create_connection(listener.getsockname()).close()
        thread.join()


def test_a_place_in_the_stream_that_cannot_be_read_stops_no_webhook(redis_url: str, redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        client.set("ganger:{0}:api:deliveries:position", "nonsense")
    engine = Engine("api", variables={"GANGER_REDIS_URL": redis_url}, webhooks_private=True)
    try:
        engine.await_line(lambda row: row.get("position") == "nonsense")
        with Receiver() as receiver:
            task = engine.submit("a", webhook={"url": receiver.url})
            engine.http.post(f"/tasks/{task['id']}/cancel")
            assert json.loads(receiver.next().body)["data"]["id"] == task["id"]
        assert engine.http.get("/scheduler/health").json()["degraded"] == []
    finally:
        engine.close()


def test_the_secret_of_tasks_is_renewed(http: httpx.Client) -> None:
    first = http.get("/webhook/secret").json()
    assert http.post("/webhook/secret").json() != first
    assert http.get("/webhook/secret").json() != first


def test_a_trace_goes_through_the_task_and_its_spans_are_exported(
        engine: Engine, http: httpx.Client, collector: Receiver) -> None:
    task = http.post("/tasks", json={"task_type": "traced"}, headers={"traceparent": TRACEPARENT}).json()
    carried = http.get(f"/tasks/{task['id']}/result", params={"wait": 30}).json()["result"]
    assert carried.startswith(f"00-{TRACE}-")
    assert carried != TRACEPARENT, "the task is below the span of its submit"
    http.post("/tasks/batch", json={"tasks": [{"task_type": "fail", "payload": {}}]},
              headers={"traceparent": TRACEPARENT})
    spans = {}
    while not {"submit traced", "wait traced", "run traced", "submit fail", "run fail"} <= spans.keys():
        request = ExportTraceServiceRequest.FromString(collector.next().body)
        spans |= {span.name: span for resource in request.resource_spans for scope in resource.scope_spans
                  for span in scope.spans if span.trace_id.hex() == TRACE}
    submitted, waited, ran = spans["submit traced"], spans["wait traced"], spans["run traced"]
    assert submitted.parent_span_id.hex() == TRACEPARENT.split("-")[2]
    assert carried.split("-")[2] == submitted.span_id.hex()
    assert waited.parent_span_id == ran.parent_span_id == submitted.span_id
    assert waited.end_time_unix_nano == ran.start_time_unix_nano <= ran.end_time_unix_nano
    assert {one.key: one.value.string_value for one in ran.attributes}["ganger.task_id"] == task["id"]
    assert (spans["run fail"].status.code, spans["run fail"].status.message) == (2, "as asked")
