"""Text from tasks on a terminal and in a pipe: whatever a task says, it steers no terminal and is no markup."""

import codecs
import io
import json
import os
import pty
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from test_cli_engine import Engine, engine, reported_slot

from engine.cli.app import app
from engine.cli.streams import nearest

__all__ = ["engine"]  # a fixture

HOSTILE = "\x1b]0;owned\x07 \x9b31m \u202egnp.exe\u2066 [red]x[/red] [/] \r\x00\x7f\u2028\u200f end"
NAME = "[bold red]name[/] ü 語"  # what a name may be
codecs.register_error("tests.nearest", nearest)
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture(scope="module")
def hostile(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Ids of tasks that said hostile things: one that failed, one that completed, one was cancelled, one runs."""
    until = tmp_path_factory.mktemp("hostile") / "until"
    os.mkfifo(until)
    ids = {}
    for kind, extra in (("failed", {"fails": True}), ("completed", {}), ("running", {"until": str(until)})):
        payload = json.dumps({"says": HOSTILE, **extra})
        waits = ["--wait"] if kind != "running" else []
        done = engine.ganger("submit", "hostile", "--payload", payload, "--name", NAME, "--tag", "[blink]t", *waits)
        ids[kind] = (done.stderr if waits else done.stdout).split("\n")[0].removeprefix("submitted ")
    writer = os.open(until, os.O_WRONLY)
    reported_slot(engine, ids["running"])
    ids["cancelled"] = engine.ganger("submit", "echo", "--delay", "60").stdout.strip()
    engine.ganger("cancel", ids["cancelled"], "--reason", HOSTILE)
    yield ids
    os.close(writer)


def commands(ids: dict[str, str]) -> Iterator[list[str]]:
    yield from ([command, task_id] for command in ("status", "result", "logs") for task_id in ids.values())
    yield from (["tasks"], ["workers"], ["workers", "history"], ["tree"], ["top", "--once"], ["queues"], ["doctor"])
    yield from (["stack", ids["running"]], ["cancel", ids["completed"]], ["priority", ids["completed"], HOSTILE])
    yield from (["submit", HOSTILE], ["tasks", "--name", HOSTILE], ["tasks", "--queue", HOSTILE], [HOSTILE])
    yield ["submit", "hostile", "--payload", json.dumps({"says": HOSTILE, "fails": True}), "--wait"]


def steering(text: str) -> set[str]:
    return {character for character in text if not character.isprintable() and character != "\n"}


def test_in_a_pipe_nothing_steers_whoever_reads_it(engine: Engine, hostile: dict[str, str]) -> None:
    for arguments in commands(hostile):
        done = engine.ganger(*arguments)
        assert not steering(done.stdout + done.stderr), arguments
        assert not steering(engine.ganger(*arguments, "--json").stdout), arguments
    assert json.loads(engine.ganger("result", hostile["completed"]).stdout) == {HOSTILE: [HOSTILE]}
    lines = json.loads(engine.ganger("logs", hostile["failed"], "--stream", "log", "--json").stdout)
    assert lines[0]["text"].rstrip("\n") == HOSTILE, "--json has it as it was"


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_on_a_terminal_nothing_but_our_colours_steers_it(
        engine: Engine, hostile: dict[str, str], monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    for name, value in engine.environment.items():
        monkeypatch.setenv(name, value)
    for arguments in commands(hostile):
        shown = on_terminal(arguments, monkeypatch, encoding)
        assert not steering(COLOUR.sub("", shown)), (arguments, shown)
        if hostile["failed"] in arguments and arguments[0] in ("status", "logs"):
            assert "[red]x[/red] [/]" in shown, "markup is text"
    monkeypatch.setenv("COLUMNS", "200")
    assert "[bold red]name[/]" in on_terminal(["tasks"], monkeypatch, encoding)


def on_terminal(arguments: list[str], monkeypatch: pytest.MonkeyPatch, encoding: str) -> str:
    """What a command shows, called in this process with a terminal as its output."""
    ours, theirs = pty.openpty()
    shown: list[bytes] = []
    reader = threading.Thread(target=_read, args=(ours, shown))
    reader.start()
    with monkeypatch.context() as patched, open(theirs, "wb", buffering=0) as terminal:
        stream: Any = io.TextIOWrapper(terminal, encoding=encoding, errors="tests.nearest", write_through=True)
        patched.setattr(sys, "stdout", stream)
        patched.setattr(sys, "stderr", stream)
        with pytest.raises(SystemExit):
            typer.main.get_command(app)(arguments, prog_name="ganger")
        stream.flush()
    reader.join()
    os.close(ours)
    return b"".join(shown).decode(encoding).replace("\r\n", "\n")


def _read(terminal: int, shown: list[bytes]) -> None:
    while True:
        try:
            shown.append(os.read(terminal, 4096))
        except OSError:  # the other side has closed
            return


def test_every_word_passes_through_the_one_place_that_cleans_it() -> None:
    """Nobody but `output.py` and `streams.py` writes to the standard streams."""
    folder = Path(__file__).parents[3] / "engine" / "cli"
    writes = re.compile(r"std(out|err)\.(write|buffer)|\bprint\(|\becho\(|\.print\(|typer\.confirm")
    found = {path.name for path in folder.rglob("*.py") if writes.search(path.read_text())}
    assert found <= {"output.py", "streams.py", "host.py"}, "the doctor prints in processes of its own"
