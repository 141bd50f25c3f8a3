"""What a submit may be given, where defaults come from, and that a refusal names what it refuses."""

import enum
import math
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import orjson
import pytest
from pydantic import BaseModel

from engine.client.submission import HandlerDirectory, SubmissionFactory
from engine.core.task.priority import TaskPriority
from engine.core.task.task_id import created_ms, is_task_id
from engine.errors import InvalidInput, InvalidOption, InvalidPayload, PayloadTooLarge, UnknownHandler
from engine.ports.client_broker import Submission
from engine.tasks.encoding import DEPTH_MAX, encode
from engine.tasks.handler import Handler, make_spec
from engine.tasks.handler_spec import HandlerSpec

NOW = 1_735_689_600_000


class Size(BaseModel):
    width: int


@dataclass
class Point:
    x: float


class Colour(enum.Enum):
    RED = "red"


def plain(payload: Any) -> None: ...
def typed(payload: Size) -> None: ...


class Announcements:
    """What pools have announced; counts how often it is read."""

    def __init__(self, told: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        self.told, self.reads = told or {}, 0

    def __call__(self) -> Mapping[str, Mapping[str, Any]]:
        self.reads += 1
        return self.told


def factory(announcements: Any = dict, specs: Iterable[HandlerSpec] = (), bytes_max: int = 1000) -> SubmissionFactory:
    return SubmissionFactory(HandlerDirectory(announcements, {spec.name: spec for spec in specs}), bytes_max)


def submit(task_type: Any = "x", payload: Any = None, *, at: SubmissionFactory | None = None,
           **options: Any) -> Submission:
    return (at or factory()).make(task_type, payload, options, NOW)


# -- payloads ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("payload", "text"), [
    (None, "null"), ({"a": [1, 2.5, True, None, "é"]}, '{"a":[1,2.5,true,null,"é"]}'), ((1, 2), "[1,2]"), ([], "[]"),
    (2**64 - 1, "18446744073709551615"), (Point(1.5), '{"x":1.5}'), (Size(width=3), '{"width":3}'),
    ([Size(width=3), None], '[{"width":3},null]'), (Colour.RED, '"red"'),
    (datetime(2025, 1, 1, tzinfo=UTC), '"2025-01-01T00:00:00+00:00"'),
    (uuid.UUID(int=1), '"00000000-0000-0000-0000-000000000001"')])
def test_a_payload_is_written_as_json(payload: Any, text: str) -> None:
    assert submit(payload=payload).record.payload == text.encode()


def _circle() -> list[Any]:
    circle: list[Any] = []
    circle.append(circle)
    return circle


def _deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(("payload", "field", "words"), [
    ({"a": [1, {2}]}, "payload.a[1]", "set (send a list)"), (b"x", "payload", "bytes (decode it"),
    ({"a b": object()}, "payload['a b']", "object"), ({1: 2}, "payload", "key 1 of type int"),
    ([{"p": Decimal("1")}], "payload[0].p", "Decimal"), ({"f": plain}, "payload.f", "function"),
    ({"n": math.nan}, "payload.n", "is nan"), ([None, -math.inf], "payload[1]", "is -inf"),
    (math.nan, "payload", "nan"), (Point(math.inf), "payload.x", "is inf"), ({"s": "a\ud800b"}, "payload.s", "at 1"),
    ({"\udfff": 1}, "a key of payload", "Unicode"), ([2**64], "payload[0]", "more than 64 bits"),
    ([-(2**63) - 1], "payload[0]", "more than 64 bits"), (Size, "payload", "type")])
def test_what_is_not_json_is_named_by_path_and_type(payload: Any, field: str, words: str) -> None:
    with pytest.raises(InvalidPayload) as refusal:
        submit(payload=payload)
    assert refusal.value.field == field
    assert words in str(refusal.value)


@pytest.mark.parametrize("payload", [_circle(), _deep(DEPTH_MAX + 1), _deep(5000)])
def test_a_payload_too_deep_is_refused(payload: Any) -> None:
    with pytest.raises(InvalidPayload, match="nested more than 254 levels"):
        submit(payload=payload)


def test_the_greatest_depth_can_be_read_again() -> None:
    assert orjson.loads(encode(_deep(DEPTH_MAX), 1000)) == _deep(DEPTH_MAX)


def test_a_payload_too_large_names_its_size_and_the_limit() -> None:
    assert submit(payload="x" * 998).record.payload == b'"%b"' % (b"x" * 998)
    with pytest.raises(PayloadTooLarge, match="1001 bytes of JSON, and 1000") as refusal:
        submit(payload="x" * 999)
    assert (refusal.value.field, refusal.value.value, refusal.value.limit) == ("payload", "1001 bytes", "1000 bytes")


def test_a_typed_payload_is_checked_where_its_handler_is_known() -> None:
    known = factory(specs=[make_spec("x", typed, {})])
    assert submit(payload={"width": 3}, at=known).record.payload == b'{"width":3}'
    assert submit(payload=Size(width=3), at=known).record.payload == b'{"width":3}'
    with pytest.raises(InvalidPayload, match=r"payload\.width of task type 'x'") as refusal:
        submit(payload={"width": "wide"}, at=known)
    assert refusal.value.field == "payload.width"
    assert submit(payload={"width": "wide"}).record.payload == b'{"width":"wide"}'


# -- options ----------------------------------------------------------------------------------------------------------


def test_options_are_stored_and_moments_are_moments() -> None:
    made = submit(name="cover", queue="images", priority="urgent", delay=1.5, timeout=30,
                  soft_timeout=timedelta(seconds=2), max_retries=0, expires=60, idempotency_key="k",
                  fair_key="user 7", tags=("a", "b", "a"),
                  max_deliveries=1, result_ttl=0)
    assert made.record.queue == "images"
    assert made.record.priority is TaskPriority.URGENT
    assert made.record.created_ms == NOW
    assert made.idempotency_key == "k"
    assert made.record.options == {
        "name": "cover", "timeout": 30, "soft_timeout": 2.0, "max_retries": 0, "fair_key": "user 7", "tags": ["a", "b"],
        "max_deliveries": 1, "result_ttl": 0, "due_ms": NOW + 1500, "expires_ms": NOW + 60_000}


def test_a_plain_submit_stores_no_options() -> None:
    made = submit(timeout=None, queue=None, delay=0)
    assert made.record.options == {}
    assert (made.record.queue, made.record.priority) == ("default", TaskPriority.NORMAL)
    assert is_task_id(made.id)
    assert created_ms(made.id) == NOW


LONG = "x" * 201


@pytest.mark.parametrize(("option", "value"), [
    ("queue", "a b"), ("queue", "a:b"), ("queue", ""), ("queue", "x" * 65), ("queue", 7),
    ("priority", "asap"), ("priority", 9), ("priority", 1.5), ("priority", []),
    ("delay", -1), ("delay", math.nan), ("delay", math.inf), ("delay", "5"), ("delay", True), ("delay", 10**400),
    ("delay", timedelta(seconds=-1)), ("timeout", -0.1), ("timeout", math.nan), ("soft_timeout", -1),
    ("expires", 0), ("expires", -1), ("expires", math.nan), ("max_retries", -1), ("max_retries", 2.0),
    ("max_retries", True), ("max_deliveries", 0), ("result_ttl", math.nan), ("idempotency_key", ""),
    ("idempotency_key", LONG), ("idempotency_key", 7), ("idempotency_key", "a\nb"), ("idempotency_key", "\ud800"),
    ("fair_key", LONG), ("name", LONG), ("name", "a\x00"), ("tags", "tag"), ("tags", [1]), ("tags", ["a"] * 5 + [LONG]),
    ("tags", [str(n) for n in range(33)])])
def test_an_option_out_of_its_bounds_is_refused_by_name(option: str, value: Any) -> None:
    with pytest.raises(InvalidOption) as refusal:
        submit(**{option: value})
    assert refusal.value.field.partition("[")[0] == option
    assert refusal.value.limit
    assert len(str(refusal.value)) < 500


def test_options_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(InvalidOption, match="expires 5 is not acceptable: it must be more than the delay"):
        submit(expires=5, delay=5)
    with pytest.raises(InvalidOption, match=r"soft_timeout 30 .* less than the timeout"):
        submit(soft_timeout=30, timeout=30)


def test_an_option_of_handlers_alone_is_told_from_an_unknown_one() -> None:
    for name in ("max_crashes", "retry_backoff_s", "preemptible"):
        with pytest.raises(InvalidOption, match=f"no option '{name}': it holds for all tasks of a handler"):
            submit(**{name: 1})


def test_an_unknown_option_names_its_neighbour() -> None:
    with pytest.raises(InvalidOption, match="submit has no option 'priorty'; did you mean 'priority'"):
        submit(priorty="high")


# -- handlers ---------------------------------------------------------------------------------------------------------


def test_defaults_come_from_the_handler_registered_here_before_the_announced_one() -> None:
    spec = make_spec("x", plain, {"queue": "here", "priority": "low", "expires": 10, "max_deliveries": 2})
    announcements = Announcements({"x": {"queue": "there", "priority": "HIGH"}, "y": {"queue": "there", "expires": 9}})
    both = factory(announcements, [spec])
    record = submit(at=both).record
    assert (record.queue, record.priority) == ("here", TaskPriority.LOW)
    assert record.options == {"expires_ms": NOW + 10_000, "max_deliveries": 2}
    assert announcements.reads == 0
    record = submit("y", at=both, delay=1).record
    assert (record.queue, record.priority) == ("there", TaskPriority.NORMAL)
    assert record.options == {"expires_ms": NOW + 10_000, "due_ms": NOW + 1000}
    explicit = submit(at=both, queue="q", expires=1, max_deliveries=1).record
    assert explicit.queue == "q"
    assert explicit.options == {"expires_ms": NOW + 1000, "max_deliveries": 1}


def test_announcements_are_read_again_for_a_name_that_is_missing() -> None:
    announcements = Announcements({"y": {}})
    known = factory(announcements)
    for _ in range(3):
        submit("y", at=known)
    assert announcements.reads == 1
    with pytest.raises(UnknownHandler):
        submit("z", at=known)
    announcements.told = {"y": {}, "z": {}}
    submit("z", at=known)
    assert announcements.reads == 3


def test_an_unknown_handler_names_its_neighbour_and_what_there_is() -> None:
    known = factory(Announcements({"thumbnail": {}, "other": {}}), [make_spec("local", plain, {})])
    with pytest.raises(UnknownHandler, match="handler 'tumbnail'; did you mean 'thumbnail'") as refusal:
        submit("tumbnail", at=known)
    assert refusal.value.limit == "local, other, thumbnail"


def test_an_unknown_handler_is_accepted_where_the_setting_says_so() -> None:
    announcements = Announcements({"thumbnail": {"queue": "images"}})
    known = SubmissionFactory(HandlerDirectory(announcements, {}, accepts_unknown=True), 1000)
    assert submit("thumbnail", at=known).record.queue == "images"
    record = submit("of tomorrow", at=known).record
    assert (record.task_type, record.queue) == ("of tomorrow", "default")
    submit("of tomorrow", at=known)
    assert announcements.reads == 1, "once in five seconds"


def test_a_task_may_come_before_the_first_pool() -> None:
    assert submit("anything", at=factory(dict, [make_spec("local", plain, {})])).record.task_type == "anything"


def test_a_handler_may_stand_for_its_name() -> None:
    spec = make_spec("x", plain, {})
    assert submit(Handler(spec, plain)).record.task_type == "x"


@pytest.mark.parametrize("task_type", [None, 7, plain, b"x"])
def test_a_task_type_is_a_name(task_type: Any) -> None:
    with pytest.raises(InvalidOption) as refusal:
        submit(task_type)
    assert refusal.value.field == "task_type"


# -- many -------------------------------------------------------------------------------------------------------------


def test_tasks_of_one_millisecond_get_ids_by_chance() -> None:
    ids = {submit().id for _ in range(50)}
    assert len(ids) == 50
    assert all(is_task_id(task_id) and created_ms(task_id) == NOW for task_id in ids)


def test_many_tasks_get_rising_ids() -> None:
    made = factory().make_many(({"task_type": "x", "payload": n, "queue": "q"} for n in range(1000)), NOW)
    ids = [one.id for one in made]
    assert sorted(set(ids)) == ids
    assert [one.record.payload for one in made[:3]] == [b"0", b"1", b"2"]
    assert {one.record.queue for one in made} == {"q"}


@pytest.mark.parametrize(("task", "error", "field"), [
    ({"task_type": "x", "payload": {1}}, InvalidPayload, "tasks[1].payload"),
    ({"task_type": "x", "payload": "x" * 2000}, PayloadTooLarge, "tasks[1].payload"),
    ({"task_type": "x", "delay": -1}, InvalidOption, "tasks[1].delay"),
    ({"payload": 1}, InvalidOption, "tasks[1].task_type"), ({"type": "x"}, InvalidOption, "tasks[1].task_type"),
    ({"task_type": "x", "que": "a"}, InvalidOption, "tasks[1].que"), ("x", InvalidOption, "tasks[1].task")])
def test_a_refusal_among_many_names_the_place(task: Any, error: type[InvalidInput], field: str) -> None:
    with pytest.raises(error, match=r"tasks\[1\]: ") as refusal:
        factory().make_many([{"task_type": "x"}, task], NOW)
    assert refusal.value.field == field
