"""A folder for an embedded Redis, and processes that use it."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from processes import User

from engine.adapters.redis.embedded.server import await_end


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="ganger-test-"))
    yield path / "data"
    if (path / "data").exists():
        await_end(path / "data")
    shutil.rmtree(path)


@pytest.fixture
def user(folder: Path) -> Iterator[Callable[[], User]]:
    with ExitStack() as stack:
        def start() -> User:
            started = User(folder)
            stack.callback(started.process.wait)
            stack.callback(started.process.kill)
            return started
        yield start
