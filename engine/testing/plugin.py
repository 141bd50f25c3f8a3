"""Fixtures for pytest, there as soon as Ganger is installed.

    ganger            a private engine with workers, on an embedded Redis in the test's own folder
    ganger_inline     an inline engine: no processes, a clock that stands still
    ganger_settings   overrides for both; a project may define its own

Handlers are those that are registered when the test begins: import them at the top of the test's module.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from engine.scheduler import Scheduler
    from engine.testing.inline import Inline


@pytest.fixture
def ganger_settings() -> dict[str, Any]:
    """Settings for the engines of the tests; to be overridden in a conftest.py or a test module."""
    return {"max_workers": 2}


@pytest.fixture
def ganger(tmp_path: Path, ganger_settings: dict[str, Any]) -> "Iterator[Scheduler]":
    """A started engine that nobody else sees; it is stopped and its data is gone after the test."""
    from engine.scheduler import Scheduler

    # An empty URL, and not none: whatever the environment says, a test does not touch a Redis of its own accord.
    private = {"redis_url": "", "data_dir": str(tmp_path / "ganger"), "shutdown_grace_s": 5.0}
    with Scheduler(**{**private, **ganger_settings}) as scheduler:
        yield scheduler


@pytest.fixture
def ganger_inline(ganger_settings: dict[str, Any]) -> "Iterator[Inline]":
    """An inline engine; `my_handler.submit(…)` uses it during the test."""
    from engine.testing.inline import Inline

    with Inline(**ganger_settings) as inline:
        yield inline
