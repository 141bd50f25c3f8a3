"""`ganger demo` as a newcomer runs it: in a pipe, for machines, and with a Ctrl-C in the middle."""

import json
import os
import pty
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.terminal import Terminal

pytestmark = pytest.mark.timeout(120)
ENDED_S_MAX = 15.0
COMMAND = (sys.executable, "-m", "engine", "demo", "--tasks", "20")


@pytest.fixture
def environment() -> Any:
    """A folder for all temporary files; in the end nothing is left in it, and nothing runs on it."""
    with tempfile.TemporaryDirectory(prefix="demo-") as folder:
        yield {**os.environ, "TMPDIR": folder, "COLUMNS": "80", "TERM": "xterm"}
        assert list(Path(folder).iterdir()) == []
        running = [process for process in psutil.process_iter(["cmdline"])
                   if any(folder in word for word in process.info["cmdline"] or ())]
        _, left = psutil.wait_procs(running, timeout=ENDED_S_MAX)  # Redis ends when its last user has gone
        assert left == []


def test_in_a_pipe_that_takes_latin_1_only(environment: dict[str, str]) -> None:
    done = subprocess.run(COMMAND, env={**environment, "PYTHONIOENCODING": "latin-1"}, capture_output=True,
                          encoding="latin-1", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert "\x1b" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    for words in ("of 34 ended", "hang_in_c  killed after 2.", "_sum_up_to", "the worker was killed by SIGSEGV",
                  "2 failures, then COMPLETED in run 3", "1 crash, then COMPLETED in run 2", "-server",
                  "All 34 tasks ended", "Nothing is left running"):
        assert words in done.stdout


def test_for_machines(environment: dict[str, str]) -> None:
    """Settings of the user, as here a Redis that is not there, are none of the demo's business."""
    done = subprocess.run((*COMMAND, "--json"), env={**environment, "GANGER_REDIS_URL": "redis://127.0.0.1:1"},
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["ok"] is True
    assert found["tasks"] == 34
    hung = {task["task_type"]: task for task in found["hung"]}
    assert "_sum_up_to" in hung["misbehaving.hang_in_c"]["post_mortem"]["stacks"]
    assert {task["task_type"] for task in found["crashed"]} == {"misbehaving.segfault", "misbehaving.kill_itself",
                                                                "misbehaving.exit_hard"}
    leak = max(process["peak_rss_bytes"] for process in found["processes"])
    assert leak > 256 << 20


def test_ctrl_c_in_a_terminal_leaves_nothing(environment: dict[str, str]) -> None:
    status, shown = in_terminal(environment, interrupt_at="/34")
    assert status == 130, shown
    assert "━" in shown


def test_closing_the_terminal_leaves_nothing(environment: dict[str, str]) -> None:
    """What is left would be found by the fixture."""
    terminal = Terminal(COMMAND, environment, Path.cwd())
    terminal.see("/34")
    assert terminal.hang_up() == 128 + signal.SIGHUP


def in_terminal(environment: dict[str, str], interrupt_at: str) -> tuple[int, str]:
    """Run the demo on a terminal of its own; press Ctrl-C when it shows the text. Return exit code and screen."""
    ours, theirs = pty.openpty()
    ends = dict.fromkeys(("stdin", "stdout", "stderr"), theirs)
    with subprocess.Popen(COMMAND, env=environment, process_group=0, **ends) as demo:
        os.close(theirs)
        shown = ""
        while True:
            try:
                shown += os.read(ours, 4096).decode(errors="replace")
            except OSError:  # the last one to write has gone
                break
            if interrupt_at and interrupt_at in shown:
                interrupt_at = ""
                demo.send_signal(signal.SIGINT)
        os.close(ours)
        return demo.wait(), shown
