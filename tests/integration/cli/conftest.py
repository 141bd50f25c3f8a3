"""The command, called in an empty folder on an embedded Redis."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from engine.adapters.redis.embedded.server import EmbeddedRedis, await_end, open_embedded
from engine.cli.app import app

Ganger = Callable[..., Any]


@pytest.fixture(scope="module")
def redis() -> Iterator[EmbeddedRedis]:
    folder = Path(tempfile.mkdtemp(prefix="ganger-test-"))
    with open_embedded(folder / "data") as embedded:
        yield embedded
    await_end(folder / "data")
    shutil.rmtree(folder)


@pytest.fixture
def ganger(redis: EmbeddedRedis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ganger:
    """Calls the command in an empty folder, on keys of its own, without any of our variables."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("GANGER_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GANGER_DATA_DIR", str(redis.folder))
    monkeypatch.setenv("GANGER_QUEUE_PREFIX", tmp_path.name[-60:])

    def call(*arguments: str, **options: Any) -> Any:
        return CliRunner().invoke(app, list(arguments), **options)

    return call
