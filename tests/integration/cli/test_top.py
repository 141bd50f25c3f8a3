"""`ganger top` on a whole engine, in a terminal of its own, with keys as a person presses them."""

import itertools
import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from engine.cli.app import app
from engine.cli.exit_codes import Exit
from engine.scheduler import Scheduler
from tests.redis_server import RedisServer, binaries
from tests.terminal import DOWN, Terminal

HERE = Path(__file__).parent
LEAVES_ALTERNATE_SCREEN, SHOWS_CURSOR = b"\x1b[?1049l", b"\x1b[?25h"
_numbers = itertools.count()


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    server = RedisServer(binaries()[0])
    yield server
    server.stop()


@pytest.fixture(scope="module")
def engine(redis: RedisServer) -> Iterator[Scheduler]:
    """One worker, whose run an urgent task has stand still."""
    scheduler = Scheduler(redis_url=redis.url, handlers=["tests.integration.engine.urgent_handlers"], max_workers=1,
                          sample_interval_s=0.2)
    scheduler.start()
    yield scheduler
    scheduler.stop(grace_s=0)


def plain_environment() -> dict[str, str]:
    """Without settings, and without a size, which is the terminal's."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("GANGER_", "COLUMNS", "LINES"))}


@pytest.fixture
def top(redis: RedisServer, engine: Scheduler) -> Iterator[Terminal]:
    environment = plain_environment()
    command = [sys.executable, "-m", "engine", "top", "--interval", "0.2", "--redis-url", redis.url]
    terminal = Terminal(command, {**environment, "PYTHONPATH": str(HERE.parents[2])}, HERE)
    terminal.until(lambda text: "worker " in text and "fork server" in text)
    yield terminal
    terminal.close()


def begin(engine: Scheduler, folder: Path, task_type: str, **options: object) -> tuple[str, Path]:
    """A task that goes on until its end is written to the file; its id, and that file."""
    name = f"{task_type}{next(_numbers)}"
    begun, end = folder / name, folder / f"{name}.end"
    if task_type == "hold":
        os.mkfifo(end)
    return engine.client.submit(task_type, {"begun": str(begun), "end": str(end)}, **options), end


def test_a_task_is_seen_its_stack_shown_and_it_is_cancelled(engine: Scheduler, top: Terminal, tmp_path: Path) -> None:
    task_id, _ = begin(engine, tmp_path, "hold", timeout=50)
    screen = top.see(task_id[-6:].lower())
    line = next(line for line in screen.splitlines() if "worker 0" in line)
    assert line.startswith("▶"), "it is selected"
    assert f"hold {task_id[-6:].lower()}" in line
    assert "/ 50s" in line
    assert "root" in screen
    assert "keeper" in screen
    assert "fork server" in screen
    assert all(len(line) <= 80 for line in top.lines)
    assert top.lines[-1].startswith("↑↓ worker"), "the last of the 24 lines tells the keys"

    top.press("s")
    assert "urgent_handlers.py" in top.see("Where ")
    top.press(" x")
    top.see("pool default")
    top.press("c")
    top.see(f"Cancel hold {task_id[-6:].lower()}? y/n")
    top.press("n")
    top.see("nothing was done")
    assert engine.client.get(task_id).status == "RUNNING", "neither the stack nor the question has hurt it"
    top.press("cy")
    top.see("being stopped")
    assert engine.client.wait([task_id], timeout=20)[0].status == "CANCELLED"


def test_a_queue_is_chosen_paused_and_resumed(engine: Scheduler, top: Terminal, tmp_path: Path) -> None:
    engine.client.pause("images")
    task_id, end = begin(engine, tmp_path, "spin", queue="images", priority="HIGH")
    end.write_text("at once")
    top.see("images")
    top.press("\t")
    screen = top.until(lambda text: "▶ images        paused" in text)
    assert re.search(r"images +paused +· +1 \d\.\ds +· +·", screen), "one waits, HIGH, for so long"
    top.press("p")
    top.until(lambda text: "▶ images        open" in text)
    top.press("p")
    top.until(lambda text: "▶ images        paused" in text)
    assert [queue.paused for queue in engine.client.queue_stats() if queue.queue == "images"] == [True]
    top.press("p")
    assert engine.client.wait([task_id], timeout=20)[0].status == "COMPLETED"


def test_a_run_that_stands_still_is_marked(engine: Scheduler, top: Terminal, tmp_path: Path) -> None:
    low, low_end = begin(engine, tmp_path, "spin", priority="LOW")
    top.see(low[-6:].lower())
    urgent, urgent_end = begin(engine, tmp_path, "hold", priority="URGENT")
    screen = top.until(lambda text: f"FROZEN spin {low[-6:].lower()}" in text and urgent[-6:].lower() in text)
    assert "1 frozen" in screen
    assert "+1" in next(line for line in screen.splitlines() if "FROZEN" in line), "what it has started"
    top.press(DOWN)
    top.until(lambda text: any(line.startswith("▶ │") and "worker 0" not in line for line in text.splitlines()))
    urgent_end.write_text("")
    top.until(lambda text: "FROZEN" not in text)
    low_end.write_text("")
    assert [task.status for task in engine.client.wait([low, urgent], timeout=20)] == ["COMPLETED", "COMPLETED"]


def test_help_and_another_size(top: Terminal) -> None:
    top.press("?")
    top.see("select a worker")
    top.press("?")
    top.see("c cancel")
    top.resize(120, 40)
    os.kill(top.pid, signal.SIGWINCH)
    top.until(lambda text: "pid state" in text and top.lines[39].startswith("↑↓ worker"))


@pytest.mark.parametrize(("how", "code"), [("q", Exit.OK), ("\x03", Exit.INTERRUPTED), (signal.SIGTERM, 128 + 15)])
def test_it_leaves_the_terminal_as_it_was(top: Terminal, how: str | int, code: int) -> None:
    top.press(how) if isinstance(how, str) else os.kill(top.pid, how)
    assert top.end() == code
    assert LEAVES_ALTERNATE_SCREEN in top.raw
    assert SHOWS_CURSOR in top.raw
    assert b"Traceback" not in top.raw
    assert top.is_as_before


def test_json_is_one_document(engine: Scheduler, redis: RedisServer) -> None:
    done = CliRunner().invoke(app, ["top", "--json", "--redis-url", redis.url])
    assert done.exit_code == Exit.OK
    assert done.stdout.count("\n") == 1


def test_a_terminal_that_cannot_move_its_cursor_gets_the_screen_once(engine: Scheduler, redis: RedisServer) -> None:
    environment = plain_environment()
    command = ["/usr/bin/env", "TERM=dumb", sys.executable, "-m", "engine", "top", "--redis-url", redis.url]
    terminal = Terminal(command, {**environment, "PYTHONPATH": str(HERE.parents[2])}, HERE)
    assert terminal.end() == 0
    assert b"\x1b" not in terminal.raw
    assert "worker 0" in terminal.text
    terminal.close()


def test_it_says_so_while_redis_is_away(engine: Scheduler, redis: RedisServer, top: Terminal) -> None:
    redis.kill()
    top.see("Redis has been away for")
    assert "fork server" in top.text, "what was seen last stays"
    top.press("?")
    top.see("select a worker")
    top.press("?")
    redis.start()
    top.until(lambda text: "Redis has been away" not in text)
