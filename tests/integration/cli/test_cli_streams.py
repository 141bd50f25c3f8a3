"""The command on streams that are closed, full, gone, or know few characters: one line at most and an exit code."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from engine.cli.exit_codes import Exit

ROOT = Path(__file__).parents[3]
NOBODY = "01H5RC2K8D7QZ3V0M4T"
PAYLOAD = {"ü": "→ \u202e \x9b 語 😀"}


class Done(NamedTuple):
    code: int
    stdout: bytes
    stderr: bytes


Shell = Callable[..., Done]


@pytest.fixture
def shell(ganger: Any) -> Shell:
    """Runs the command in a shell, with redirections; `ganger` has made its folder and its environment."""
    def run(arguments: str, **environment: str) -> Done:
        command = f'exec "{sys.executable}" -m engine {arguments}'
        done = subprocess.run(["bash", "-c", command], env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
                              capture_output=True, check=False)
        return Done(done.returncode, done.stdout, done.stderr)

    return run


@pytest.mark.parametrize(("arguments", "code"), [
    ("--version >&-", Exit.OK), ("--help >&- 2>&-", Exit.OK), ("tasks <&- >&- 2>/dev/null", Exit.OK),
    ("tasks --json >&-", Exit.OK),
    (f"status {NOBODY} 2>&-", Exit.FAILED), ("nonsense 2>&-", Exit.USAGE),
    (f"status {NOBODY} 2>/dev/full", Exit.FAILED), ("submit echo --payload - <&- 2>/dev/null", Exit.USAGE),
])
def test_a_closed_stream_is_silence(shell: Shell, arguments: str, code: Exit) -> None:
    assert shell(arguments) == (code, b"", b"")


@pytest.mark.parametrize("arguments", ["--version", "tasks --help", "tasks --json"])
def test_output_that_cannot_be_written_is_one_line(shell: Shell, arguments: str) -> None:
    told = b"ganger: cannot write to standard output: No space left on device\n"
    assert shell(f"{arguments} >/dev/full") == (Exit.FAILED, b"", told)


@pytest.mark.parametrize("arguments", ["--help", "tasks --json"])
def test_a_reader_that_has_gone_is_success(shell: Shell, arguments: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(tmp_path / "pipe", os.O_WRONLY)
    os.close(reader)
    try:
        done = subprocess.run([sys.executable, "-m", "engine", *arguments.split()], stdout=writer,
                              stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)
        assert (done.returncode, done.stderr) == (Exit.OK, b"")
    finally:
        os.close(writer)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_stream_that_knows_few_characters_gets_their_escapes(shell: Shell, ganger: Any, encoding: str) -> None:
    task_id = ganger("submit", "echo", "--payload", json.dumps(PAYLOAD), "--name", "→ 語").stdout.strip()
    environment = {"PYTHONIOENCODING": encoding}
    for command, words in ((f"status {task_id}", "> \\u8a9e"), ("tasks", "> \\u8a9e"), ("top --once", "queue")):
        done = shell(command, **environment)
        assert (done.code, done.stderr) == (Exit.OK, b"")
        assert words in done.stdout.decode(encoding)
    task = json.loads(shell(f"status {task_id} --json", **environment).stdout.decode(encoding))
    assert (task["payload"], task["name"]) == (PAYLOAD, "→ 語"), "JSON is the same in every encoding"


def test_an_error_whose_words_are_no_utf_8_is_a_document_all_the_same(shell: Shell) -> None:
    done = shell("status $'\\xff' --json")
    assert done.code == Exit.FAILED
    assert "no task has the id" in json.loads(done.stdout)["error"]["message"]


def test_ctrl_c_while_it_is_still_loading_ends_it_without_a_word(tmp_path: Path) -> None:
    """The first module that it would load says that it is being loaded, and waits."""
    (tmp_path / "typer.py").write_text("print('loading', flush=True)\nimport signal\nsignal.pause()\n")
    loading = subprocess.Popen([sys.executable, "-m", "engine", "tasks"], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"})
    assert loading.stdout is not None
    assert loading.stdout.readline() == b"loading\n"
    loading.send_signal(2)
    assert loading.communicate() == (b"", b"")
    assert loading.returncode == -2
