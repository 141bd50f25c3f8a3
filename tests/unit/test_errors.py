"""Errors travel: between processes, into logs and caches, wherever somebody pickles or copies them."""

import copy
import importlib
import inspect
import pickle
import pkgutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pytest

import engine
from engine import errors
from engine.errors import GangerError

GIVEN: dict[str, Any] = {
    "message": "what is wrong", "field": "queue", "value": "'a b'", "limit": "a name", "task_id": "0" * 19,
    "move": "retry", "status": "FAILED", "outcome": {"error": {"kind": "E", "message": "no"}, "cause": "raised"},
    "headers": {"Allow": "GET"}, "wait_s": 2.5, "others": 3, "reason": "why", "after": 5.0}


def every_error() -> Iterator[type[BaseException]]:
    """Each exception that some module of the engine has, public or not."""
    for module in pkgutil.walk_packages(engine.__path__, "engine."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    found = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, BaseException)}
    waiting: list[type[BaseException]] = [GangerError]
    while waiting:
        kind = waiting.pop()
        found.add(kind)
        waiting += kind.__subclasses__()
    own = (kind for kind in found if kind.__module__.startswith("engine."))
    return iter(sorted(own, key=lambda kind: kind.__name__))


ERRORS = list(every_error())


def sample(kind: type[BaseException]) -> BaseException:
    """One with all that its class asks for."""
    if "__init__" not in {name for one in kind.__mro__ for name in vars(one) if one.__module__.startswith("engine.")}:
        return kind("what is wrong")
    args, keywords = [], {}
    for one in list(inspect.signature(kind.__init__).parameters.values())[1:]:
        value = GIVEN.get(one.name, "what is wrong")
        if one.kind is inspect.Parameter.KEYWORD_ONLY:
            keywords[one.name] = value
        elif one.kind is not inspect.Parameter.VAR_KEYWORD:
            args.append(value)
    return kind(*args, **keywords)


def test_all_are_found() -> None:
    names = {kind.__name__ for kind in ERRORS}
    assert {"InvalidPayload", "TaskTimedOut", "ResultNotReady", "BrokerUnavailable", "EngineError", "Retry"} <= names
    assert {"PayloadRefused", "ChangedMeanwhile"} <= names, "also those without a public name"


@pytest.mark.parametrize("kind", ERRORS)
def test_a_copy_is_the_same_error(kind: type[BaseException]) -> None:
    error = sample(kind)
    error.add_note("seen in the morning")
    copies = [copy.copy(error), copy.deepcopy(error)]
    copies += [pickle.loads(pickle.dumps(error, protocol)) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)]
    for other in copies:
        assert type(other) is kind
        assert (str(other), other.args, vars(other)) == (str(error), error.args, vars(error))


def fail(name: str) -> None:
    raise sample(getattr(errors, name))


def test_one_that_is_raised_in_a_pool_of_processes_arrives_and_leaves_the_pool_whole() -> None:
    with ProcessPoolExecutor(1) as pool:
        for name in ("InvalidPayload", "TaskNotFound", "TaskTimedOut", "ResultNotReady", "BrokerUnavailable"):
            with pytest.raises(getattr(errors, name)):
                pool.submit(fail, name).result(timeout=30)
