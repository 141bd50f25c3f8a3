"""What may be a hook of a worker."""

from collections.abc import Iterator
from typing import Any

import pytest

from engine import on_worker_start, on_worker_stop
from engine.errors import InvalidHandler
from engine.tasks import worker_hooks


@pytest.fixture(autouse=True)
def none_registered() -> Iterator[None]:
    kept = worker_hooks.AT_START[:], worker_hooks.AT_STOP[:]
    worker_hooks.AT_START.clear()
    worker_hooks.AT_STOP.clear()
    yield
    worker_hooks.AT_START[:], worker_hooks.AT_STOP[:] = kept


def connect() -> None:
    """Nothing."""


def test_a_hook_stays_the_function_that_it_is() -> None:
    assert on_worker_start(connect) is connect
    assert on_worker_stop(connect) is connect
    at_start, at_stop = worker_hooks.AT_START, worker_hooks.AT_STOP
    assert at_start == at_stop == [connect]


def test_a_module_that_is_imported_twice_has_its_hooks_once() -> None:
    on_worker_start(connect)
    again: dict[str, Any] = {"__name__": __name__}
    exec("def connect(): ...", again)
    on_worker_start(again["connect"])
    (registered,) = worker_hooks.AT_START
    assert registered is again["connect"]


def test_what_cannot_be_called_without_arguments_is_refused_with_the_reason() -> None:
    with pytest.raises(InvalidHandler, match=r"'payload' would get nothing"):
        on_worker_start(lambda payload: None)
    with pytest.raises(InvalidHandler, match="without brackets"):
        on_worker_stop(None)  # type: ignore[type-var]


def test_a_coroutine_function_is_refused_with_what_to_do() -> None:
    async def later() -> None:
        """Nothing."""

    with pytest.raises(InvalidHandler, match=r"asyncio\.run"):
        on_worker_start(later)


def test_defaults_need_no_arguments() -> None:
    on_worker_start(lambda url="redis://": None)
    assert len(worker_hooks.AT_START) == 1
