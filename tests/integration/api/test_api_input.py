"""The ladder of bad input: whatever comes, the answer is a problem that names the field and the limit, never a fault
of ours."""

import gzip
import json
import socket
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx
import pytest

from tests.integration.api.api_kit import PATIENCE_S, Engine

BODY_BYTES_MAX = 65_536
PLAIN = {"content-type": "application/json"}
TASK = "0" * 19


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    running = Engine("api", api_body_bytes_max=BODY_BYTES_MAX, api_timeout_s=3)
    yield running
    running.close()


@pytest.fixture
def http(engine: Engine) -> httpx.Client:
    return engine.http


class Case(NamedTuple):
    name: str
    status: int
    body: bytes = b""
    field: str | None = None
    method: str = "POST"
    path: str = "/tasks"
    headers: dict[str, str] = PLAIN


def task(**fields: Any) -> bytes:
    return json.dumps({"task_type": "noop", **fields}).encode()


WIDE = b"{" + b",".join(b'"%d":1' % n for n in range(5_000)) + b"}"
CASES = [
    # size and depth
    Case("a body over the limit", 413, task(payload="x" * BODY_BYTES_MAX), "body"),
    Case("arrays in arrays", 400, b'{"task_type":"noop","payload":' + b"[" * 30_000 + b"]" * 30_000 + b"}", "body"),
    Case("objects in objects", 400, b'{"task_type":"noop","payload":' + b'{"a":' * 9_000 + b"1" + b"}" * 9_001, "body"),
    Case("a number of 5,000 digits", 400, b'{"task_type":"noop","payload":' + b"9" * 5_000 + b"}", "body"),
    Case("a number beyond 64 bits", 422, b'{"task_type":"noop","payload":' + b"9" * 30 + b"}", "payload"),
    Case("a name of 201 characters", 422, task(name="x" * 201), "name"),
    Case("33 tags", 422, task(tags=[str(n) for n in range(33)]), "tags"),
    Case("a batch of 1,001", 422, json.dumps({"tasks": [{"task_type": "a"}] * 1_001}).encode(), "tasks",
         path="/tasks/batch"),
    Case("a batch of none", 422, b'{"tasks":[]}', "tasks", path="/tasks/batch"),
    # what is no JSON
    Case("nothing", 400, b"", "body"),
    Case("half of it", 400, b'{"task_type": "noo', "body"),
    Case("two of them", 400, task() + task(), "body"),
    Case("a comma too many", 400, b'{"task_type": "noop",}', "body"),
    Case("single quotes", 400, b"{'task_type': 'noop'}", "body"),
    Case("a byte order mark", 400, "\ufeff{}".encode(), "body"),
    Case("invalid UTF-8", 400, b'{"task_type": "\xff\xfe"}', "body"),
    Case("UTF-16", 400, '{"task_type": "noop"}'.encode("utf-16"), "body"),
    Case("half a surrogate pair", 400, b'{"task_type": "\\ud800"}', "body"),
    Case("a form", 415, b"task_type=noop", headers={"content-type": "application/x-www-form-urlencoded"}),
    Case("no type of content", 415, task(), headers={}),
    # wrong types: nothing is converted
    Case("a list", 422, b"[]", "body"), Case("a text", 422, b'"noop"', "body"), Case("null", 422, b"null", "body"),
    Case("a number for a name of a handler", 422, b'{"task_type": 7}', "task_type"),
    Case("no handler", 422, b"{}", "task_type"), Case("an empty name", 422, task(name=""), "name"),
    Case("a text for a number", 422, task(timeout="30"), "timeout"),
    Case("true for a number", 422, task(max_retries=True), "max_retries"),
    Case("half a retry", 422, task(max_retries=1.5), "max_retries"),
    Case("less than nothing", 422, task(delay=-1), "delay"), Case("too long", 422, task(delay=1e12), "delay"),
    Case("NaN for a number", 422, b'{"task_type": "noop", "timeout": NaN}', "timeout"),
    Case("infinity for a number", 422, b'{"task_type": "noop", "timeout": Infinity}', "timeout"),
    Case("NaN in a payload", 422, b'{"task_type": "noop", "payload": {"a": [NaN]}}', "payload.a[0]"),
    Case("a number too large for a float", 422, b'{"task_type": "noop", "payload": 1e999}', "payload"),
    Case("an unknown field", 422, task(proirity="high"), "proirity"),
    Case("an unknown priority", 422, task(priority="highest"), "priority"),
    Case("a queue with a slash", 422, task(queue="a/b"), "queue"),
    Case("a queue with a brace, as keys have", 422, task(queue="{0}"), "queue"),
    Case("a deadline before the start", 422, task(delay=10, expires=5), "expires"),
    Case("a trace that is none", 422, task(traceparent="00-xyz"), "traceparent"),
    Case("a webhook to this host", 422, task(webhook={"url": "http://127.0.0.1/"}), "webhook.url"),
    Case("a webhook to a file", 422, task(webhook={"url": "file:///etc/passwd"}), "webhook.url"),
    Case("a webhook with a line break", 422, task(webhook={"url": "http://a.example/\r\nX: y"}), "webhook.url"),
    Case("one bad task in a batch of all or nothing", 422,
         b'{"all_or_nothing":true,"tasks":[{"task_type":"a"},{"task_type":1}]}', "tasks[1].task_type",
         path="/tasks/batch"),
    Case("an unknown field of a batch", 422, b'{"tasks":[{"task_type":"a"}],"all":true}', "all", path="/tasks/batch"),
    Case("a body that is packed", 415, gzip.compress(task()), "content-encoding",
         headers={**PLAIN, "content-encoding": "gzip"}),
    Case("unknown fields in a large body", 422, WIDE, "0"),
    Case("unknown fields within a large body", 422, b'{"filter":' + WIDE + b"}", "filter.0",
         path="/tasks/batch/cancel"),
    Case("a large body that is no JSON", 400, b'{"task_type":' + b" " * 30_000 + b"noop}", "body"),
    # queries and headers
    Case("a page of none", 422, b"", "limit", "GET", "/tasks?limit=0"),
    Case("a page of all", 422, b"", "limit", "GET", "/tasks?limit=501"),
    Case("a page of many", 422, b"", "limit", "GET", "/tasks?limit=many"),
    Case("an unknown status", 422, b"", "status.0", "GET", "/tasks?status=DONE"),
    Case("a cursor of nobody's", 422, b"", "cursor", "GET", "/tasks?cursor=AAAA"),
    Case("a cursor that is no base64", 422, b"", "cursor", "GET", "/tasks?cursor=%ff"),
    Case("too long a wait", 422, b"", "wait", "GET", f"/tasks/{TASK}/result?wait=301"),
    Case("NaN to wait", 422, b"", "wait", "GET", f"/tasks/{TASK}/result?wait=nan"),
    Case("a window of no time", 422, b"", "window_s", "GET", "/scheduler/metrics?window_s=0"),
    Case("a time without a place", 422, b"", "since", "GET", "/scheduler/logs?since=2026-01-01T00:00:00"),
    Case("a time as a number", 422, b"", "until", "GET", "/scheduler/logs?until=1.5"),
    Case("a parameter with a typo", 422, b"", "stauts", "GET", "/tasks?stauts=FAILED"),
    Case("a parameter where there is none", 422, task(), "wait", "POST", "/tasks?wait=1"),
    Case("a parameter for a quick call", 422, b"", "full", "GET", f"/tasks/{TASK}?full=1"),
    Case("a long idempotency key", 422, task(), "idempotency-key", headers={**PLAIN, "idempotency-key": "k" * 201}),
    Case("an event of nobody's", 422, b"", "last-event-id", "GET", "/events", {"last-event-id": "now"}),
    # methods and paths
    Case("a method that there is not", 405, b"", None, "DELETE"),
    Case("a change of everything", 405, b"", None, "PUT", f"/tasks/{TASK}"),
    Case("no such path", 404, b"", None, "GET", "/nothing"),
    Case("a slash too many", 404, task(), None, "POST", "/tasks/"),
    Case("two slashes", 404, b"", None, "GET", "//tasks"),
    Case("a way up", 404, b"", None, "GET", "/tasks/%2e%2e/%2e%2e/metrics"),
    Case("a way to a file", 404, b"", None, "GET", "/tasks/..%2f..%2f..%2fetc%2fpasswd"),
    Case("a zero byte", 404, b"", None, "GET", "/tasks/%00"),
    Case("what is no UTF-8", 404, b"", None, "GET", "/tasks/%ff%fe"),
    Case("a long id", 404, b"", None, "GET", "/tasks/" + "0" * 64),
    Case("an id that is too long", 422, b"", "task_id", "GET", "/tasks/" + "0" * 65),
    Case("a key of Redis", 422, b"", "name", "POST", "/queues/ganger:{0}:tasks/purge"),
    Case("a slot that is none", 422, b"", "slot", "GET", "/workers/host/minus-one"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bad_input_is_refused_and_explained(http: httpx.Client, case: Case) -> None:
    answer = http.request(case.method, case.path, content=case.body, headers=case.headers)
    assert answer.status_code == case.status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == case.status
    assert problem["title"]
    assert problem["detail"]
    assert problem.get("field") == case.field
    assert len(answer.content) < 20_000
    assert "Traceback" not in answer.text
    if case.status == 405:
        assert answer.headers["allow"]


def test_a_body_in_pieces_is_counted(http: httpx.Client) -> None:
    answer = http.post("/tasks", content=(b"x" * 8_192 for _ in range(20)), headers=PLAIN)
    assert answer.status_code == 413
    assert answer.json()["limit"] == f"{BODY_BYTES_MAX} bytes"


@pytest.mark.parametrize(("sent", "status"), [
    (b"POST /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{",
     408),
    (b"GET / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc", 400),
    (b"NONSENSE\r\n\r\n", 400), (b"BREW /pot HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    (b"GET /api/v1/queues HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 200_000, 431),
    (b"GET /api/v1/queues HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 66_000 + b"\r\n\r\n", 431),
    (b"POST /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nX: " + b"x" * 66_000 + b"\r\n\r\nabc",
     431),
    (b"GET /api/v1/queues HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", 400),
    (b"GET /api/v1/queues HTTP/1.1\r\nHost: local", 408), (b"", None),
], ids=["a body that does not come", "two lengths", "no HTTP", "a method that nobody knows", "a header of 200 kB",
        "a whole head of 66 kB", "a whole head of 66 kB and a body", "two Host headers",
        "a head that does not end", "nothing at all"])
def test_what_is_hardly_http(engine: Engine, sent: bytes, status: int | None) -> None:
    parts = urlsplit(engine.url)
    with socket.create_connection((str(parts.hostname), parts.port or 0), PATIENCE_S) as raw:
        raw.sendall(sent)
        answer = raw.recv(65_536)
    assert answer.split()[1:2] == ([] if status is None else [str(status).encode()])
    assert engine.http.get("/queues").status_code == 200


def test_a_head_is_answered_as_a_get_is_without_the_body(engine: Engine, http: httpx.Client) -> None:
    for path in ("/queues", "/scheduler/health", "/tasks", "/events", "/nothing", f"/tasks/{TASK}", "/docs"):
        with http.stream("GET", path) as got:
            answer = http.head(path)
            assert (answer.status_code, answer.content) == (got.status_code, b""), path
            assert answer.headers["content-type"] == got.headers["content-type"]
    assert http.get("/tasks/batch/cancel").headers["allow"] == "POST"
    assert "HEAD" in http.delete("/tasks").headers["allow"]
    assert http.head("/tasks/batch/cancel").status_code == 405


def test_problems_are_titled_as_their_status_is(http: httpx.Client) -> None:
    for answer, title in ((http.get("/nothing"), "Not Found"), (http.get("/tasks?limit=0"), "Unprocessable Content")):
        assert (answer.json()["type"], answer.json()["title"]) == ("about:blank", title)


def test_the_same_field_twice_and_odd_texts_are_taken_as_they_are(http: httpx.Client) -> None:
    answer = http.post("/tasks", content=b'{"task_type":"a","task_type":"b","name":"\xf0\x9f\x92\xa9 \\u00e9\xcc\x81"}',
                       headers=PLAIN)
    assert answer.status_code == 201
    assert (answer.json()["task_type"], answer.json()["name"]) == ("b", "💩 é\u0301")
    assert http.get(f"/tasks/{answer.json()['id']}").json()["name"] == "💩 é\u0301"
