"""SIGHUP of a terminal that is closed ends an engine; SIGHUP that somebody sends has it read everything anew."""

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner

from engine.adapters.redis.embedded.server import await_end
from engine.cli.app import app
from tests.terminal import Terminal

ROOT = Path(__file__).parents[3]
ENDED_S_MAX = 20


@pytest.fixture
def start() -> Iterator[Callable[..., Terminal]]:
    """Starts `ganger run` on a terminal of its own, below the command `before`, and waits until it is up."""
    terminals: list[Terminal] = []
    folder = Path(tempfile.mkdtemp(prefix="ganger-test-"))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GANGER_")}
    environment |= {"GANGER_DATA_DIR": str(folder / "data"), "PYTHONPATH": str(ROOT)}

    def started(*before: str) -> Terminal:
        command = [*before, sys.executable, "-m", "engine", "run", "--max-workers", "1", "--log-format", "text",
                   "--handlers", "tests.integration.engine.tree_handlers"]
        terminals.append(Terminal(command, environment, folder, columns=160, lines=50))
        terminals[-1].until(lambda text: sum("ready" in line for line in text.splitlines()) == 2)
        return terminals[-1]

    yield started
    for terminal in terminals:
        terminal.close()
    await_end(folder / "data")
    shutil.rmtree(folder)


def test_closing_the_terminal_drains_the_engine(start: Callable[..., Terminal]) -> None:
    terminal = start()
    tree = psutil.Process(terminal.pid).children(recursive=True)
    assert terminal.hang_up() == 0
    _, left = psutil.wait_procs(tree, timeout=ENDED_S_MAX)
    assert left == []


def test_a_signal_that_somebody_sends_reloads_and_the_terminal_still_ends_it(start: Callable[..., Terminal]) -> None:
    terminal = start()
    os.kill(terminal.pid, signal.SIGHUP)
    terminal.until(lambda text: sum(" ended " in line for line in text.splitlines()) == 2)
    assert "reloading" in terminal.text
    assert terminal.hang_up() == 0


def test_with_nohup_it_goes_on_when_the_terminal_is_closed(start: Callable[..., Terminal]) -> None:
    terminal = start("/bin/bash", "-c", 'trap "" HUP; "$0" "$@"; exit $?')
    engine = psutil.Process(terminal.pid).children()[0]
    children = engine.children()
    os.close(terminal.fd)
    terminal.fd = -1
    os.kill(engine.pid, signal.SIGHUP)  # as a shell does that ends
    told = CliRunner().invoke(app, ["scale", "2", "--data-dir", terminal.environment["GANGER_DATA_DIR"]])
    assert "1 -> 2 workers" in told.stdout, "a pool that drains would not say so"
    os.kill(engine.pid, signal.SIGTERM)
    _, left = psutil.wait_procs([engine, *children], timeout=ENDED_S_MAX)
    assert left == []
