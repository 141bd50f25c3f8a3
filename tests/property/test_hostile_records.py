"""Whatever stands in Redis, reading it ends in a value of the promised shape: never in an exception, never in code."""

import base64
import warnings
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from engine.adapters.redis.tasks.task_reader import EncodedTask
from engine.client.models import LogLine, Task
from engine.client.submission import AnnouncedHandler
from engine.core.task import stored_json
from engine.core.task.event import events
from engine.core.task.policy import RunPolicy
from engine.core.task.record import Record
from engine.core.task.state import StoredState
from engine.core.task.stored_task import parse
from engine.core.worker import frames
from engine.ports.api_keys import ApiKeyTable
from engine.ports.webhooks import new_secret
from engine.services.api.http.authentication import Authenticator
from engine.services.pool.run_factory import RunFactory, UnknownType
from engine.services.pool.worker_control import _pause_asked

ID = "01H5RC2K8D7QZ3V0M4T"
JSON = some.recursive(
    some.none() | some.booleans() | some.integers(-(2**63), 2**64 - 1)
    | some.floats(allow_nan=False, allow_infinity=False) | some.text(some.characters(codec="utf-8"), max_size=8),
    lambda inner: some.lists(inner, max_size=5) | some.dictionaries(some.text(
        some.characters(codec="utf-8"), max_size=8), inner, max_size=4), max_leaves=12)


def objects(*fields: str) -> some.SearchStrategy[dict[str, Any]]:
    """Objects with the names that somebody reads, and anything behind them."""
    return some.dictionaries(some.sampled_from(fields), JSON, max_size=len(fields))


OPTIONS = objects("name", "timeout", "soft_timeout", "max_retries", "expires_ms", "due_ms", "fair_key", "tags",
                  "max_deliveries", "result_ttl", "traceparent", "webhook", "flavour")
HEADS = some.tuples(JSON | some.just("t"), JSON | some.just("q"), JSON | some.integers(0, 3)).map(list) | some.tuples(
    some.just("t"), some.just("q"), some.integers(0, 3), OPTIONS | JSON).map(list) | JSON
RECORDS = some.binary(max_size=60) | some.builds(
    lambda head, payload: orjson.dumps(head) + b"\n" + payload, HEADS,
    some.binary(max_size=20) | JSON.map(orjson.dumps))
ERRORS = objects("kind", "message", "traceback", "more") | JSON
OUTCOMES = some.binary(max_size=60) | JSON.map(orjson.dumps) | some.builds(
    lambda told, error: orjson.dumps(told | {"error": error}), objects(
        "run", "cause", "result", "started_ms", "ended_ms", "wall_s", "cpu_s", "peak_rss_bytes", "worker", "pid",
        "post_mortem"), ERRORS)
RETURNED = some.builds(
    lambda run, result, ms, s, worker, pid: b'{"run":%d,"cause":"returned","result":%b,"started_ms":%d,"ended_ms":%d,'
    b'"wall_s":%.6f,"cpu_s":%.6f,"peak_rss_bytes":%d,"logs_dropped_bytes":%d,"worker":%b,"pid":%d}' % (
        run, result, ms, ms, s, s, pid, pid, worker, pid), some.integers(0, 10**10), JSON.map(orjson.dumps)
    | some.sampled_from([b'1},"x":{', b'{"started_ms":1}', b'1,"result":2', b"NaN", b""]), some.integers(0, 10**15),
    some.floats(0, 1e14), JSON.map(orjson.dumps) | some.just(b'"w/0"'), some.integers(0, 10**10))
WORDS = some.sampled_from([b"QUEUED", b"RUNNING", b"FAILED", b"COMPLETED", b"NOWHERE", b"queued", b"\xff"])
NUMBERS = some.integers(-1, 10**16).map(lambda number: str(number).encode()) | some.sampled_from(
    [b"0", b"1", b"", b"1e5"])
LINES = some.none() | some.binary(max_size=40) | some.tuples(
    WORDS, *[NUMBERS] * 6, some.binary(max_size=6) | some.just(b"sup")).map(b" ".join)
PROGRESS = some.none() | some.binary(max_size=30) | objects("fraction", "message", "at_ms").map(orjson.dumps)
MANY = settings(max_examples=300, deadline=None, database=None)


@MANY
@given(RECORDS, LINES, some.none() | OUTCOMES | RETURNED, PROGRESS)
def test_a_task_is_told_whatever_is_stored_of_it(record: bytes, line: bytes | None, outcome: bytes | None,
                                                 progress: bytes | None) -> None:
    found = parse(ID, record, line, outcome, progress)
    told = Task.of(found)
    with warnings.catch_warnings(action="error"):  # of pydantic's, for a field that is not of its type
        orjson.dumps(told.model_dump(mode="json"))
    assert Task.model_validate(told.model_dump()) == told, "it is not validated, since it always would be"
    raw = EncodedTask(ID, record, line, None if line is None or found.is_lost else outcome, progress)
    assert raw.status is found.state.status
    assert Task.unread(raw, raw.status) == told
    assert Task.unread(raw, raw.status).result == told.result
    assert isinstance(found.fair_key, str)
    assert found.seen[0] == ID
    if found.problem is None:
        assert Record.decode(record, ID).encode()


@MANY
@given(RECORDS, some.tuples(NUMBERS, NUMBERS, NUMBERS).map(b" ".join))
def test_a_pool_makes_a_run_of_it_or_sets_it_aside(record: bytes, counters: bytes) -> None:
    claims = RunFactory(RunPolicy())
    claims.learn([{"name": "t"}, {"name": ""}])
    try:
        run = claims.make(ID.encode(), record, counters)
    except (ValueError, UnknownType):
        return
    assert (type(run.task_type), type(run.queue)) == (str, str)
    assert frames.task(run.token, run.number, run.attempts, 0.0, run.task_id, run.record)
    assert run.policy.timeout_s >= 0
    assert run.policy.retry.max_retries >= 0


@MANY
@given(OUTCOMES | RETURNED)
def test_an_end_is_told_whatever_is_stored_of_it(text: bytes) -> None:
    told = stored_json.outcome(text, 7)
    assert stored_json.result(text) == told.get("result")
    assert isinstance(told["run"], int)
    assert _pause_asked(text) is None or _pause_asked(text) >= 0


@MANY
@given(some.binary(max_size=40) | JSON.map(orjson.dumps) | objects("at_ms", "run", "stream", "level", "text").map(
    orjson.dumps))
def test_a_row_of_a_log_is_a_line(text: bytes) -> None:
    line = LogLine.of(stored_json.log_row(text))
    assert isinstance(line.text, str)


@MANY
@given(some.binary(max_size=40) | objects(
    "host", "pool", "slots", "identity", "import_failures", "hook_failures", "do", "id", "run", "reason", "queue",
    "priority", "expires", "max_deliveries").map(orjson.dumps))
def test_reports_commands_and_announcements(text: bytes) -> None:
    report = stored_json.report(text)
    assert all(isinstance(slot, dict) for slot in report.get("slots") or ())
    command = stored_json.cancel_command(text)
    assert command is None or isinstance(command.run, int)
    assert isinstance(stored_json.sample(text), dict)
    assert isinstance(AnnouncedHandler.read(stored_json.announcement(text)).queue, str)


@MANY
@given(some.binary(max_size=60) | some.text(some.sampled_from("01AZ*, \nQUEDRN9"), max_size=40).map(str.encode))
def test_an_entry_of_the_events_is_read_or_refused(entry: bytes) -> None:
    try:
        assert all(event.status for event in events(entry))
    except ValueError:
        assert entry


@MANY
@given(some.binary(max_size=40) | JSON.map(orjson.dumps) | objects(
    "secret", "url", "on", "task_id", "status", "tries", "body", "name", "role", "queues", "hash").map(orjson.dumps))
def test_webhooks_messages_and_keys_of_the_api_are_whole_or_none(text: bytes) -> None:
    hook, message = stored_json.webhook(text, "secret", "on"), stored_json.message(text)
    assert hook is None or base64.b64decode(hook["secret"].removeprefix("whsec_"), validate=True)
    assert message is None or message["tries"] >= 0
    access = Authenticator(is_open=False, is_local=True)
    access.learn(ApiKeyTable({"k": stored_json.api_key(text)}, None))
    assert access.wants_keys


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_abc", "whsec_!!!!", "x" * 40, 7])
def test_a_secret_that_nothing_can_be_signed_with_is_none(secret: object) -> None:
    assert stored_json.webhook(orjson.dumps({"secret": secret}), "secret") is None
    assert stored_json.webhook(orjson.dumps({"secret": new_secret()}), "secret")
    assert stored_json.webhook(orjson.dumps({"secret": new_secret()}), "secret", "on") is None


def test_a_message_to_a_tasks_own_webhook_has_no_other() -> None:
    told = {"task_id": "x", "status": "FAILED", "tries": 0, "body": {}, "url": "http://x"}
    assert stored_json.message(orjson.dumps(told)) == {**told, "webhook": None}
    assert stored_json.message(orjson.dumps({**told, "tries": "many"})) is None


@MANY
@given(LINES)
def test_a_stored_state_is_read_or_refused(line: bytes | None) -> None:
    try:
        state = StoredState.parse(line or b"")
    except ValueError:
        return
    assert state.run < 10**9, "it fits into a frame"


def test_a_letter_that_asks_for_the_end_of_a_run() -> None:
    text = b'{"do":"cancel","id":"x","run":3,"reason":"why"}'
    assert stored_json.cancel_command(text) == stored_json.CancelCommand("x", 3, "why")
    assert stored_json.cancel_command(b'{"do":"level"}') is None


@pytest.mark.parametrize(("text", "row"), [
    (b'{"at_ms":1,"run":2,"stream":"stderr","text":"x"}', {"at_ms": 1, "run": 2, "stream": "stderr", "text": "x"}),
    (b'{"at_ms":1,"run":2,"stream":"stderr"}', {"at_ms": 0, "run": 0, "stream": "stdout", "level": None,
                                                "text": '{"at_ms":1,"run":2,"stream":"stderr"}'}),
    (b'{"at_ms":null,"run":2,"stream":"stderr","text":"x"}', None), (b"plain words", None)])
def test_a_row_is_kept_as_it_is_or_shown_as_it_stands_there(text: bytes, row: dict[str, Any] | None) -> None:
    assert stored_json.log_row(text) == (row or {"at_ms": 0, "run": 0, "stream": "stdout", "level": None,
                                            "text": text.decode()})
