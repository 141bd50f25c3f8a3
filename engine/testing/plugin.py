"""Fixtures for pytest, there as soon as Ganger is installed.

    ganger            a private engine with workers, on an embedded Redis in the test's own folder
    ganger_inline     an inline engine: no processes, a clock that stands still
    ganger_settings   settings for both; a project may define its own

The engines know the handlers that are registered when the test begins: import them at the top of the test's module.
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
    """Settings for the engines of the tests. Override the fixture in a conftest.py or in a test module."""
    return {"max_workers": 2}


@pytest.fixture
def ganger(tmp_path: Path, ganger_settings: dict[str, Any]) -> "Iterator[Scheduler]":
    """A started engine of the test's own. After the test it is stopped, and its data is deleted."""
    from engine.scheduler import Scheduler

    # An empty URL overrides the environment: a test must not use the Redis that it names.
    private = {"redis_url": "", "data_dir": str(tmp_path / "ganger"), "shutdown_grace_s": 5.0}
    with Scheduler(**{**private, **ganger_settings}) as scheduler:
        yield scheduler


@pytest.fixture
def ganger_inline(ganger_settings: dict[str, Any]) -> "Iterator[Inline]":
    """An inline engine. `my_handler.submit(…)` uses it during the test."""
    from engine.testing.inline import Inline

    with Inline(**ganger_settings) as inline:
        yield inline
