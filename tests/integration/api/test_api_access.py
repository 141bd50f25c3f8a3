"""Who may do what: every endpoint by every role, queues of a key, rates, and where the API refuses to start."""

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.integration.api.api_kit import PATIENCE_S, Engine
from tests.redis_server import RedisServer

NOBODY, READ, SUBMIT, OPERATE, ADMIN = ROLES = ("nobody", "read", "submit", "operate", "admin")
TASK = "0" * 19

# The least role that may.
LEAST = {
    "POST /tasks": SUBMIT, "POST /tasks/batch": SUBMIT, "GET /tasks": READ, "POST /tasks/search": READ,
    "GET /tasks/{task_id}": READ, "GET /tasks/{task_id}/status": READ, "GET /tasks/{task_id}/result": READ,
    "GET /tasks/{task_id}/runs": READ, "GET /tasks/{task_id}/logs": READ, "PATCH /tasks/{task_id}": OPERATE,
    "POST /tasks/{task_id}/cancel": OPERATE, "POST /tasks/{task_id}/retry": OPERATE,
    "POST /tasks/batch/cancel": OPERATE, "POST /tasks/batch/retry": OPERATE, "POST /tasks/batch/priority": OPERATE,
    "POST /tasks/batch/delete": ADMIN, "GET /events": READ, "GET /queue/stats": READ, "GET /queues": READ,
    "POST /queues/{name}/pause": OPERATE, "POST /queues/{name}/resume": OPERATE, "POST /queues/{name}/purge": ADMIN,
    "POST /scheduler/control": ADMIN, "GET /scheduler/status": READ, "GET /scheduler/metrics": READ,
    "GET /scheduler/health": NOBODY, "GET /scheduler/logs": ADMIN, "GET /workers": READ,
    "GET /workers/{supervisor}/{slot}": READ, "POST /workers/{supervisor}/{slot}/stack": OPERATE,
    "POST /workers/{supervisor}/{slot}/restart": OPERATE, "GET /webhooks": ADMIN, "POST /webhooks": ADMIN,
    "DELETE /webhooks/{webhook_id}": ADMIN, "GET /webhook/secret": ADMIN, "POST /webhook/secret": ADMIN,
    "GET /webhook/deliveries": ADMIN, "GET /metrics": READ,
}
FILLED = {"task_id": TASK, "name": "matrix", "supervisor": "host", "slot": "0", "webhook_id": "0" * 16}


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    running = Engine("api", api_queue_tasks_max=5)
    yield running
    running.close()


@pytest.fixture(scope="module")
def keys(engine: Engine) -> dict[str, str]:
    """A key for each role, that the server knows."""
    return {role: create(engine, role, "--role", role) for role in ROLES[1:]}


def create(engine: Engine, *arguments: str) -> str:
    """A key that the server knows: it reads them every second, and says so."""
    told = json.loads(engine.ganger("keys", "create", *arguments, "--json"))
    await_keys(engine, "added", told["id"])
    key: str = told["key"]
    return key


def revoke(engine: Engine, key: str) -> str:
    """What is said when it is revoked; the server does not know it any more."""
    said = engine.ganger("keys", "revoke", key.split("_")[1])
    await_keys(engine, "revoked", key.split("_")[1])
    return said


def await_keys(engine: Engine, change: str, key_id: str) -> None:
    engine.await_line(lambda row: row["message"] == "the API keys have changed" and key_id in row[change])


def bearer(key: str | None) -> dict[str, str]:
    return {} if key is None else {"Authorization": f"Bearer {key}"}


def test_the_table_has_every_endpoint(engine: Engine) -> None:
    document = engine.http.get("/openapi.json").json()
    told = {f"{method.upper()} {path.removeprefix('/api/v1')}": operation["x-role"].replace("none", NOBODY)
            for path, operations in document["paths"].items() for method, operation in operations.items()}
    assert told == LEAST


@pytest.mark.parametrize("endpoint", LEAST)
def test_each_role_may_what_the_table_says(engine: Engine, keys: dict[str, str], endpoint: str) -> None:
    method, path = endpoint.split()
    url = engine.url.removesuffix("/api/v1") + path if path == "/metrics" else path.format(**FILLED)
    for rank, role in enumerate(ROLES):
        params = {"seconds": 0.01} if path == "/events" else {}
        answer = engine.http.request(method, url, params=params, headers=bearer(keys.get(role)),
                                     json={} if method in ("POST", "PATCH") else None)
        if rank >= ROLES.index(LEAST[endpoint]):
            assert answer.status_code not in (401, 403, 500), (role, answer.text)
        else:
            assert answer.status_code == (401 if role == NOBODY else 403), (role, answer.text)
            assert answer.headers["content-type"] == "application/problem+json"
            assert role != NOBODY or answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("authorization", [
    "Bearer", "Bearer gk_", "Bearer gk_{id}_", "Bearer gk_{id}_wrong", "Basic {key}", "{key}",
    "Bearer {key}x", "Bearer x{key}", "Bearer gk__", "Bearer \xff"])
def test_what_is_nearly_a_key_is_none(engine: Engine, keys: dict[str, str], authorization: str) -> None:
    key = keys[ADMIN]
    text = authorization.format(key=key, id=key.split("_")[1])
    answer = engine.http.get("/queues", headers={"Authorization": text.encode("latin-1")})
    assert answer.status_code == 401
    assert key not in answer.text


def test_a_key_of_some_queues_sees_no_others(engine: Engine, keys: dict[str, str]) -> None:
    mine = bearer(create(engine, "images", "--role", "operate", "--queue", "images"))
    admin = bearer(keys[ADMIN])
    other = engine.http.post("/tasks", json={"task_type": "a", "queue": "other"}, headers=admin).json()["id"]
    own = engine.http.post("/tasks", json={"task_type": "a", "queue": "images"}, headers=mine).json()["id"]

    def ask(method: str, path: str, body: Any = None) -> httpx.Response:
        return engine.http.request(method, path, json=body, headers=mine)

    assert ask("POST", "/tasks", {"task_type": "a", "queue": "other"}).status_code == 403
    assert ask("POST", "/tasks", {"task_type": "a"}).status_code == 403
    for path in ("", "/status", "/result", "/runs", "/logs"):
        assert ask("GET", f"/tasks/{other}{path}").status_code == 404
    assert ask("PATCH", f"/tasks/{other}", {"priority": "low"}).status_code == 404
    assert ask("POST", f"/tasks/{other}/cancel", {}).status_code == 404
    assert [one["id"] for one in ask("GET", "/tasks").json()["tasks"]] == [own]
    assert ask("POST", "/tasks/search", {"queue": "other"}).json()["tasks"] == []
    assert ask("POST", "/tasks/batch/cancel", {"filter": {"queue": "other"}}).json()["matched"] == 0
    assert [one["queue"] for one in ask("GET", "/queues").json()] == ["images"]
    assert ask("POST", "/queues/other/pause").status_code == 403
    assert ask("GET", "/scheduler/status").status_code == 403
    assert ask("GET", "/workers").status_code == 403
    events = ask("GET", "/events?seconds=0.5").text
    assert other not in events


def test_a_revoked_key_is_none_and_no_secret_is_kept(engine: Engine, keys: dict[str, str]) -> None:
    key = create(engine, "soon gone")
    assert engine.http.get("/queues", headers=bearer(key)).status_code == 200
    listed = engine.ganger("keys", "list", "--json")
    assert key.split("_", 2)[2] not in listed
    assert "hash" not in listed
    revoke(engine, key)
    assert engine.http.get("/queues", headers=bearer(key)).status_code == 401


def test_an_api_that_had_a_key_never_opens_by_itself() -> None:
    engine = Engine("api")
    try:
        assert engine.http.get("/queues").status_code == 200, "it is open until there is a key"
        assert engine.http.get("/queues", headers=bearer("gk_no_key")).status_code == 401
        key = create(engine, "the only one")
        said = revoke(engine, key)
        assert "ganger keys open" in engine.popen("keys", "list").communicate(timeout=PATIENCE_S)[1]
        for authorization in (None, key, "gk_no_key"):
            answer = engine.http.get("/queues", headers=bearer(authorization))
            assert answer.status_code == 401, said
        next_one = Engine("api", variables=engine.environment)
        try:
            assert next_one.await_line(lambda row: "refuses every call" in row["message"])["level"] == "WARNING"
            assert next_one.http.post("/scheduler/control", json={"action": "pause"}).status_code == 401
            assert json.loads(next_one.ganger("keys", "open", "--yes", "--json")) == {"open": True}
            next_one.await_line(lambda row: row["message"] == "the API keys have changed" and not row["wants_keys"])
            assert next_one.http.get("/queues").status_code == 200
            assert next_one.http.get("/queues", headers=bearer(key)).status_code == 401
        finally:
            next_one.close()
    finally:
        engine.close()


def test_an_api_does_not_open_when_its_keys_are_lost(redis_url: str, redis_server: RedisServer) -> None:
    engine = Engine("api", variables={"GANGER_REDIS_URL": redis_url})
    try:
        key = create(engine, "me", "--role", "admin")
        assert engine.popen("keys", "open", "--yes").wait(PATIENCE_S) == 2, "there is a key"
        with redis_server.client() as client:
            client.flushall()
        await_keys(engine, "revoked", key.split("_")[1])
        assert engine.http.get("/queues").status_code == 401
        assert engine.http.get("/queues", headers=bearer(key)).status_code == 401
    finally:
        engine.close()


def test_what_a_proxy_passes_on_needs_a_key() -> None:
    engine = Engine("api")
    try:
        forwarded = [{"X-Forwarded-For": "203.0.113.7"}, {"Forwarded": "for=203.0.113.7"}, {"X-Real-IP": "203.0.113.7"},
                     {"X-Forwarded-Proto": "https"}, {"Via": "1.1 proxy"}]
        for headers in forwarded:
            answer = engine.http.get("/queues", headers=headers)
            assert (answer.status_code, "ganger keys create" in answer.json()["detail"]) == (403, True), headers
        key = create(engine, "behind the proxy")
        for headers in forwarded:
            assert engine.http.get("/queues", headers={**headers, **bearer(key)}).status_code == 200
    finally:
        engine.close()


def test_calls_without_a_valid_key_are_written_down(engine: Engine, keys: dict[str, str]) -> None:
    for path, key in (("/tasks/guessed", "gk_5f0c2a9b_never-to-be-seen"), ("/tasks/tried", None)):
        assert engine.http.get(path, headers=bearer(key)).status_code == 401
        row = engine.await_line(lambda row, path=path: row.get("what") == f"GET /api/v1{path}")
        assert (row["logger"], row["level"], row["from"], row["status"]) == (
            "ganger.audit", "WARNING", "127.0.0.1", 401)
    assert not any("never-to-be-seen" in json.dumps(row) for row in engine.said)


def test_an_idempotency_key_reads_and_takes_nothing_of_another_queue(engine: Engine, keys: dict[str, str]) -> None:
    mine = bearer(create(engine, "qa", "--role", "submit", "--queue", "qa"))
    theirs = bearer(create(engine, "qb", "--role", "submit", "--queue", "qb"))
    for first, second in (("qa", "qb"), ("qb", "qa")):
        key = {"Idempotency-Key": f"order-42-{first}"}
        holders = {"qa": mine, "qb": theirs}
        ids = {}
        for queue in (first, second):
            body = {"task_type": "a", "queue": queue, "payload": {"secret of": queue}}
            answer = engine.http.post("/tasks", json=body, headers={**key, **holders[queue]})
            assert (answer.status_code, answer.json()["queue"]) == (201, queue), answer.text
            assert answer.json()["payload"] == {"secret of": queue}
            ids[queue] = answer.json()["id"]
        assert ids[first] != ids[second]


def test_a_rate_is_kept_with_the_time_to_wait(engine: Engine, keys: dict[str, str]) -> None:
    slow = bearer(create(engine, "slow", "--rate", "0.01"))
    assert engine.http.get("/queues", headers=slow).status_code == 200
    answer = engine.http.get("/queues", headers=slow)
    assert answer.status_code == 429
    assert 1 <= int(answer.headers["retry-after"]) <= 100
    assert answer.json()["limit"] == "0.01 requests a second"
    assert engine.http.get("/queues", headers=bearer(keys[READ])).status_code == 200


def test_a_full_queue_is_told_with_the_time_to_wait(engine: Engine, keys: dict[str, str]) -> None:
    tasks = [{"task_type": "a", "queue": "full"}] * 6
    batch = engine.http.post("/tasks/batch", json={"tasks": tasks}, headers=bearer(keys[ADMIN]))
    assert [item["status"] for item in batch.json()["items"]] == [201] * 5 + [429]
    answer = engine.http.post("/tasks", json=tasks[0], headers=bearer(keys[ADMIN]))
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) >= 1
    assert "full" in answer.json()["detail"]


def test_health_has_a_rate_too_and_is_read_once_a_second(redis_url: str, redis_server: RedisServer) -> None:
    """It needs no key, so whoever asks must not be able to keep Redis busy with it."""
    engine = Engine("api", variables={"GANGER_REDIS_URL": redis_url})
    limited = Engine("api", variables={"GANGER_REDIS_URL": redis_url}, api_rate_per_s=0.01)
    try:
        with redis_server.client() as client:
            def reads() -> int:
                return int(client.info("commandstats").get("cmdstat_zrange", {"calls": 0})["calls"])

            before = reads()
            answers = [engine.http.get("/scheduler/health") for _ in range(300)]
            seconds = sum(answer.elapsed.total_seconds() for answer in answers)
            assert {answer.status_code for answer in answers} == {503}
            assert answers[0].json()["reasons"] == ["no pool is running"]
            assert reads() - before <= seconds + 2
        assert [limited.http.get("/scheduler/health").status_code for _ in "ab"] == [503, 429]
    finally:
        limited.close()
        engine.close()


def test_every_changing_call_is_written_down(engine: Engine, keys: dict[str, str]) -> None:
    engine.http.post("/queues/audited/pause", headers=bearer(keys[OPERATE]))
    engine.http.post("/queues/audited/resume", headers=bearer(keys[READ]))
    for path, role, status in (("pause", OPERATE, 200), ("resume", READ, 403)):
        row = engine.await_line(lambda row, path=path: row.get("what") == f"POST /api/v1/queues/audited/{path}")
        assert row["who"].startswith(f"{role} (")
        assert (row["status"], row["from"], row["logger"]) == (status, "127.0.0.1", "ganger.audit")
    assert not any(key in json.dumps(row) for key in keys.values() for row in engine.said)


def test_headers_protect_browsers_and_other_origins_are_shut_out(engine: Engine, keys: dict[str, str]) -> None:
    page = {"Origin": "https://evil.example", **bearer(keys[ADMIN])}
    for answer in (engine.http.get("/queues", headers=page), engine.http.get("/nothing")):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["cache-control"] == "no-store"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "access-control-allow-origin" not in answer.headers
        assert "server" not in answer.headers
    docs = engine.http.get("/docs")
    assert docs.headers["content-security-policy"].startswith("default-src 'none'; style-src 'sha256-")
    assert not re.search(r"""<script|\bsrc=|@import|url\(|href=(?!"#|"openapi)""", docs.text), "it asks nobody else"
    assert engine.http.post("/queues/a/pause", headers=page).status_code == 403
    asked = engine.http.options("/queues", headers={**page, "Access-Control-Request-Method": "POST"})
    assert "access-control-allow-origin" not in asked.headers


def test_origins_that_are_allowed_and_names_that_are_not() -> None:
    engine = Engine("api", api_cors_origins="https://tasks.example.org")
    try:
        assert engine.await_line(lambda row: "there are no keys" in row["message"])["level"] == "WARNING"
        page = {"Origin": "https://tasks.example.org"}
        allowed = engine.http.post("/queues/a/pause", headers=page).headers["access-control-allow-origin"]
        assert allowed == page["Origin"]
        assert engine.http.post("/queues/a/pause", headers={"Origin": "https://evil.example"}).status_code == 403
        rebound = engine.http.get("/queues", headers={"Host": "evil.example"})
        assert (rebound.status_code, "another name" in rebound.json()["detail"]) == (403, True)
        told = [row for row in engine.said if "there are no keys" in row["message"]]
        assert len(told) == 1
        refused = engine.popen("api", "--host", "0.0.0.0", "--port", "0")
        _, words = refused.communicate(timeout=PATIENCE_S)
        assert refused.returncode == 5
        assert "ganger keys create" in words
        assert "--open" in words
        create(engine, "me", "--role", "admin")
        served = engine.popen("api", "--host", "0.0.0.0", "--port", "0", "--log-format", "json")
        assert served.stderr is not None
        assert '"url":"http://0.0.0.0:' in served.stderr.readline()
        served.terminate()
        served.communicate(timeout=PATIENCE_S)
    finally:
        engine.close()
