"""Registering handlers: what is accepted, what a spec says of it, and what each refusal tells."""

import copy
import functools
import importlib
import math
import multiprocessing
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pydantic import BaseModel, Field

from engine import Context, handler
from engine.core.task.options import Giver, given_by
from engine.core.task.priority import TaskPriority
from engine.errors import InvalidHandler, InvalidOption, InvalidPayload
from engine.tasks.handler import Handler, make_spec, register
from engine.tasks.handler_spec import REGISTRY, resolve
from engine.tasks.registration import register_lines, registration_line
from engine.testing import Inline


class Thumbnail(BaseModel):
    id: int
    size: tuple[int, int] = Field(default=(64, 64))


@dataclass
class Point:
    x: float
    y: float = 0.0


def plain(payload: dict[str, Any]) -> dict[str, Any]:
    """Give it back.

    And nothing else.
    """
    return payload


def typed(payload: Thumbnail, ctx: Context) -> int:
    return payload.id


def of_points(payload: list[Point]) -> float:
    return sum(point.x for point in payload)


def nothing() -> None: ...
def only_context(ctx: Context) -> None: ...
def unannotated_context(payload, ctx): ...  # type: ignore[no-untyped-def]
def with_default(payload: dict[str, Any], factor: int = 2) -> None: ...
def variadic(*payload: Any) -> None: ...
def two(payload: Any, other: Any) -> None: ...
def by_keyword(payload: Any, *, other: Any) -> None: ...
def fields(**fields: Any) -> None: ...
def unreadable(payload: "NoSuchModel") -> None: ...  # type: ignore[name-defined]  # noqa: F821
async def coroutine(payload: Any) -> None: ...
def generator(payload: Any) -> Iterator[int]:
    yield 1


def deliver_with(*args: Any) -> Callable[[Callable[..., Any]], Callable[[Any], Any]]:
    """A decorator that gives the function more than the task has."""
    def decorate(function: Callable[..., Any]) -> Callable[[Any], Any]:
        @functools.wraps(function)
        def wrapper(payload: Any) -> Any:
            return function(payload, *args)
        return wrapper
    return decorate


def reporting(function: Callable[[Any], Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(payload: Any, ctx: Any) -> Any:
        return function(payload)
    return wrapper


def dropping(function: Callable[[], Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(payload: Any) -> Any:
        return function()
    return wrapper


def passing(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)
    return wrapper


def bare(function: Callable[..., Any]) -> Callable[..., Any]:
    def wrapper(*args: Any) -> Any:
        return function(*args)
    return wrapper


@deliver_with("db")
def injected(payload: Thumbnail, database: str) -> str:
    return f"{payload.id} {database}"


@reporting
def reported(payload: Any) -> Any:
    return payload


@dropping
def dropped() -> str:
    return "called"


@passing
@passing
def passed(payload: Thumbnail, ctx: Context) -> int:
    return payload.id


@passing
def passed_nothing() -> str:
    return "called"


class Holder:
    def method(self, payload: Any) -> None: ...

    @staticmethod
    def static(payload: Any) -> None: ...


def nested() -> Callable[[Any], None]:
    def inside(payload: Any) -> None: ...
    return inside


@pytest.fixture(autouse=True)
def _registry() -> Iterator[None]:
    before = dict(REGISTRY)
    REGISTRY.clear()
    yield
    REGISTRY.clear()
    REGISTRY.update(before)


def test_the_decorator_registers_and_leaves_a_plain_call() -> None:
    decorated = handler("double", queue="numbers", priority="high", timeout=30, max_retries=0)(plain)
    assert isinstance(decorated, Handler)
    assert decorated({"n": 1}) == {"n": 1}
    assert decorated.__name__ == "plain"
    assert decorated.__doc__ == plain.__doc__
    spec = REGISTRY["double"]
    assert decorated.spec is spec
    assert (spec.queue, spec.priority) == ("numbers", TaskPriority.HIGH)
    assert (spec.options["timeout"], spec.options["max_retries"]) == (30, 0)
    assert "soft_timeout" not in spec.options


SQUARES = """
from engine import handler

@handler("square", max_retries=0)
def square(n):
    return n * n

def cube(n):
    return n ** 3

of_another_name = handler("cube")(cube)
"""


@pytest.fixture
def squares(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    (tmp_path / "squares_of_test.py").write_text(SQUARES)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module("squares_of_test")
    del sys.modules["squares_of_test"]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_handler_may_be_given_to_other_processes(squares: ModuleType, method: str) -> None:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(method)) as pool:
        assert list(pool.map(squares.square, [1, 2, 3], timeout=50)) == [1, 4, 9]
        assert list(pool.map(squares.of_another_name, [2], timeout=50)) == [8]


def test_a_pickled_handler_is_the_one_of_its_module(squares: ModuleType) -> None:
    assert pickle.loads(pickle.dumps(squares.square)) is squares.square
    assert copy.deepcopy(squares.square) is squares.square
    cube = pickle.loads(pickle.dumps(squares.of_another_name))
    assert (cube.spec, cube(2)) == (REGISTRY["cube"], 8)


def test_an_announcement_holds_only_what_was_given() -> None:
    spec = make_spec("double", plain, {"priority": 3, "timeout": 0, "no_retry_on": KeyError})
    assert spec.announcement() == {
        "name": "double", "function": f"{__name__}:plain", "about": "Give it back.", "queue": "default",
        "priority": "URGENT", "timeout": 0, "no_retry_on": ["builtins:KeyError"]}


@pytest.mark.parametrize(("function", "payload", "context", "model"), [
    (plain, True, False, None), (typed, True, True, Thumbnail), (of_points, True, False, list[Point]),
    (nothing, False, False, None), (only_context, False, True, None), (unannotated_context, True, True, None),
    (with_default, True, False, None), (variadic, True, False, None), (math.factorial, True, False, None),
    (injected, True, False, Thumbnail), (reported, True, True, None), (dropped, True, False, None),
    (passed, True, True, Thumbnail), (passed_nothing, False, False, None)])
def test_the_signature_says_what_a_function_takes(function: Any, payload: bool, context: bool, model: Any) -> None:
    spec = make_spec("x", function, {})
    assert (spec.takes_payload, spec.wants_context, spec.payload_model) == (payload, context, model)
    assert len(spec.arguments({}, None)) == payload + context


@pytest.mark.parametrize(("function", "words"), [
    (lambda payload: payload, ["lambda", "`def` at the top level"]),
    (nested(), ["defined inside nested()", "top level of its module"]),
    (Holder().method, ["method", "object that exists in this process"]),
    (Holder.method, ["inside a class", "top level"]),
    (Holder.static, ["inside a class", "top level"]),
    (coroutine, ["async", "asyncio.run"]),
    (generator, ["generator", "return a list"]),
    (Holder, ["is a type, not a function"]),
    (functools.partial(plain, {}), ["is a partial, not a function"]),
    ("plain", ["is a str, not a function"]),
    ([].append, ["method"]),
    (two, ["'other' would get nothing"]),
    (by_keyword, ["'other' can only be given by keyword"]),
    (fields, ["'**fields' would get nothing", "the payload is one argument"]),
    (bare(plain), ["defined inside bare()", "functools.wraps"]),
    (unreadable, ["NoSuchModel", "TYPE_CHECKING"]),
])
def test_what_cannot_be_a_handler_is_refused_with_reason_and_remedy(function: Any, words: list[str]) -> None:
    with pytest.raises(InvalidHandler) as refusal:
        register("x", function)
    assert all(word in str(refusal.value) for word in words), str(refusal.value)
    assert "x" not in REGISTRY


def test_a_function_that_runs_here_only_may_be_local() -> None:
    assert make_spec("x", nested(), {}, local=True).takes_payload


@pytest.mark.parametrize(("option", "value"), [
    ("queue", "a:b"), ("queue", ""), ("queue", 3), ("priority", "higher"), ("priority", 4), ("priority", True),
    ("timeout", -1), ("timeout", math.nan), ("timeout", math.inf), ("timeout", "3"), ("timeout", 10**400),
    ("soft_timeout", True), ("max_retries", -1), ("max_retries", 1.5), ("retry_factor", 0.5), ("retry_jitter", 1.1),
    ("retry_on", "ValueError"), ("retry_on", [ValueError, 3]), ("no_retry_on", int), ("max_deliveries", 0),
    ("expires", 0), ("result_ttl", -0.1), ("retry_on_timeout", 1)])
def test_an_option_out_of_its_bounds_is_refused_by_name(option: str, value: Any) -> None:
    with pytest.raises(InvalidOption) as refusal:
        handler("x", **{option: value})(plain)
    assert refusal.value.field == option
    assert refusal.value.limit
    assert "x" not in REGISTRY


def test_a_decorated_function_is_called_as_its_wrapper_asks() -> None:
    spec = make_spec("x", injected, {})
    assert spec.function(*spec.arguments(spec.parse(b'{"id":7}'), None)) == "7 db"
    for function in (reported, dropped, passed_nothing):
        spec = make_spec("x", function, {})
        assert spec.function(*spec.arguments("payload", None)) in ("payload", "called")


def test_a_payload_is_given_whole_or_by_its_fields() -> None:
    decorated = handler("double")(plain)
    with Inline() as inline:
        for task_id, payload in ((decorated.submit({"n": 1}), {"n": 1}), (decorated.submit(n=1), {"n": 1}),
                                 (decorated.submit(), {}), (decorated.submit(None), None),
                                 (decorated.submit_with(), {}), (inline.submit("double"), {}),
                                 (inline.submit("double", None), None),
                                 (inline.submit_many([{"task_type": "double"}])[0], {})):
            assert inline.result(task_id) == payload
        with pytest.raises(InvalidPayload, match=r"a payload and the field 'timeout'.*submit_with"):
            decorated.submit({"n": 1}, timeout=3)


def test_an_unknown_option_names_its_neighbour() -> None:
    with pytest.raises(InvalidOption, match="did you mean 'timeout'"):
        handler("x", timout=3)(plain)


def test_the_decorator_without_a_name_says_so() -> None:
    with pytest.raises(InvalidHandler, match=r'@handler\("thumbnail"\)'):
        handler(plain)  # type: ignore[arg-type]


def test_a_name_belongs_to_one_function() -> None:
    register("x", plain)
    assert register("x", plain, timeout=3).options == {"timeout": 3}
    with pytest.raises(InvalidHandler, match="already the name of"):
        register("x", typed)
    assert REGISTRY["x"].options == {"timeout": 3}


def test_registering_a_handler_again_keeps_its_options() -> None:
    first = handler("x", timeout=3, queue="slow")(plain)
    second = register("y", first, timeout=4)
    assert (second.options["timeout"], second.queue, second.function) == (4, "slow", plain)


def test_a_payload_becomes_what_the_annotation_names() -> None:
    assert make_spec("x", plain, {}).parse(b'{"id": 7}') == {"id": 7}
    assert make_spec("x", typed, {}).parse(b'{"id": 7}') == Thumbnail(id=7)
    assert make_spec("x", of_points, {}).parse(b'[{"x": 1}]') == [Point(1)]


@pytest.mark.parametrize(("function", "payload", "field"), [
    (typed, b'{"id": "seven"}', "payload.id"), (typed, b"{}", "payload.id"), (typed, b"[]", "payload"),
    (typed, b'{"id": 1, "size": [1, null]}', "payload.size[1]"),
    (of_points, b'[{"x": 1}, {"x": "a"}]', "payload[1].x")])
def test_a_payload_that_does_not_fit_names_its_field(function: Any, payload: bytes, field: str) -> None:
    with pytest.raises(InvalidPayload) as refusal:
        make_spec("x", function, {}).parse(payload)
    assert refusal.value.field == field
    assert "'x'" in str(refusal.value)


def test_a_field_that_is_missing_is_told_with_what_there_is() -> None:
    with pytest.raises(InvalidPayload, match=r"payload\.id .*: Field required, but it is not in \{'di': 7\}$"):
        make_spec("x", typed, {}).parse(b'{"di": 7}')


def test_which_exceptions_may_be_retried() -> None:
    spec = make_spec("x", plain, {"retry_on": (OSError, ValueError), "no_retry_on": FileNotFoundError})
    assert spec.may_retry(ValueError())
    assert spec.may_retry(PermissionError())
    assert not spec.may_retry(FileNotFoundError())
    assert not spec.may_retry(KeyError())
    assert make_spec("x", plain, {}).may_retry(KeyError())
    assert not make_spec("x", plain, {}).may_retry(SystemExit())


def test_every_option_of_a_spec_can_be_given_and_found_again_elsewhere() -> None:
    options = {"queue": "q", "priority": TaskPriority.LOW, "timeout": 1.0, "soft_timeout": 0.5, "max_retries": 2,
               "retry_backoff_s": 3.0, "retry_factor": 1.5, "retry_backoff_s_max": 9.0, "retry_jitter": 0.0,
               "retry_on": (ValueError,), "no_retry_on": (KeyError, subprocess.TimeoutExpired),
               "retry_on_timeout": False, "max_deliveries": 1, "max_crashes": 0, "result_ttl": 5.0, "expires": 7.0,
               "max_memory": 1 << 30, "max_cpu_seconds": 2.5, "max_processes": 4, "nice": 5, "preemptible": False,
               "retry_with_memory": [2 << 30, 4 << 30], "start_method": "spawn", "preload": False}
    assert options.keys() == given_by(Giver.HANDLER).keys()
    spec = make_spec("x", plain, options)
    assert register_lines({"x": registration_line(spec)}) == {}
    assert REGISTRY["x"] == spec


def test_failures_of_functions_elsewhere_come_with_their_traceback() -> None:
    failures = register_lines({"a": f"{__name__}:no_such", "b": "no_such_module:f", "c": f"{__name__}:plain", "d": "x"})
    assert set(failures) == {"a", "b", "d"}
    assert "has to be defined at the top level" in failures["a"]
    assert "ModuleNotFoundError" in failures["b"]
    assert "module:function" in failures["d"]
    assert set(REGISTRY) == {"c"}


def test_references_lead_to_functions() -> None:
    assert resolve(f"{__name__}:plain") is plain
    assert resolve("math:factorial") is math.factorial


def test_annotations_that_are_text_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = _module(tmp_path, monkeypatch, """
        from __future__ import annotations
        from typing import TYPE_CHECKING
        from pydantic import BaseModel
        from engine import handler
        if TYPE_CHECKING:
            from engine import Context
            from somewhere import Result
        class Model(BaseModel):
            n: int
        @handler("deferred")
        def deferred(payload: Model, ctx: Context) -> Result:
            return payload.n
    """)
    spec = REGISTRY["deferred"]
    assert spec.payload_model is module.Model
    assert spec.wants_context


def test_a_module_imported_anew_replaces_its_handlers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = _module(tmp_path, monkeypatch, """
        from engine import handler
        @handler("again")
        def again(payload): return 1
    """)
    before = REGISTRY["again"].function
    importlib.reload(module)
    assert REGISTRY["again"].function is not before


@pytest.mark.parametrize("how", ["-c", "-"])
def test_an_interactive_main_is_refused(how: str) -> None:
    program = "from engine.tasks.handler import register\ndef f(payload): ...\nregister('x', f)"
    done = subprocess.run([sys.executable, "-c", program] if how == "-c" else [sys.executable, "-"],
                          input=program, capture_output=True, text=True, check=False)
    assert "InvalidHandler" in done.stderr
    assert "put it into a file" in done.stderr


def test_importing_the_package_stays_light() -> None:
    program = "import sys, engine; from engine import handler, Retry; print(callable(handler), *sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("True")
    assert not {"redis", "pydantic", "psutil", "typer"} & set(done.stdout.split())


def test_every_public_name_is_there() -> None:
    import engine

    for name in engine.__all__:
        assert getattr(engine, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        _ = engine.nonsense  # type: ignore[attr-defined]


def _module(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> ModuleType:
    lines = text.strip("\n").splitlines()
    indent = len(lines[0]) - len(lines[0].lstrip())
    name = f"made_{folder.name}"
    (folder / f"{name}.py").write_text("\n".join(line[indent:] for line in lines))
    monkeypatch.syspath_prepend(str(folder))
    return importlib.import_module(name)
