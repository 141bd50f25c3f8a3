"""Too low limits of the user: raised, or refused with the numbers; a pool that has no descriptor left lives on."""

import errno
import logging
import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import typer

from engine.adapters.kernel import ulimits
from engine.adapters.kernel.ulimits import FILES_OF_A_POOL, FILES_OF_A_WORKER
from engine.adapters.redis.embedded.server import await_end
from engine.cli.exit_codes import Exit
from engine.cli.output import Output
from engine.cli.session import told_in_one_line
from engine.client import Client
from engine.errors import EngineError
from engine.ports.host import Exited
from tests.integration.process.host_harness import HostHarness, open_descriptors

HANDLERS = "tests.integration.engine.tree_handlers"
ROOT = Path(__file__).parents[3]
WORKERS = 8
NEEDED = FILES_OF_A_POOL + FILES_OF_A_WORKER * WORKERS


@pytest.fixture
def limited() -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Starts the command below a limit, in a folder of its own."""
    folder = Path(tempfile.mkdtemp(prefix="ganger-test-"))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GANGER_")}
    environment |= {"GANGER_DATA_DIR": str(folder / "data"), "PYTHONPATH": str(ROOT)}

    def start(ulimit: str, *arguments: str) -> "subprocess.Popen[str]":
        command = ["bash", "-c", f'ulimit {ulimit}; exec "$0" -m engine "$@"', sys.executable, *arguments]
        return subprocess.Popen(command, env=environment, cwd=folder, text=True, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE)

    start.folder = folder / "data"  # type: ignore[attr-defined]
    yield start
    await_end(folder / "data")
    shutil.rmtree(folder)


def test_too_low_a_limit_is_refused_with_the_numbers_and_the_doctor_says_the_same(limited: Any) -> None:
    run = limited("-n 64", "run", "--max-workers", str(WORKERS))
    told = run.communicate()[1]
    assert run.returncode == Exit.ENGINE
    for words in ("at most 64 open files", f"the engine needs {NEEDED}", "set max_workers to 4 or less"):
        assert words in told
    assert told.count("\n") == 1
    doctor = limited("-n 64", "doctor", "--set", f"max_workers={WORKERS}")
    line = next(line for line in doctor.communicate()[0].splitlines() if "open files" in line)
    assert line.startswith("fail")
    assert f"at most 64 open files in a process are allowed (ulimit -Hn), and the engine needs {NEEDED}" in line


def test_a_soft_limit_is_raised_as_far_as_it_is_needed(limited: Any) -> None:
    run = limited("-Sn 64", "run", "--max-workers", str(WORKERS), "--handlers", HANDLERS)
    try:
        assert any('"ready"' in line and "pool" in line for line in iter(run.stderr.readline, ""))
        pool = next(child for child in psutil.Process(run.pid).children() if "pool" in " ".join(child.cmdline()))
        assert FILES_OF_A_WORKER * WORKERS < pool.num_fds() <= NEEDED, "what is said to be needed is enough"
        assert pool.rlimit(psutil.RLIMIT_NOFILE)[0] > NEEDED
        with Client(data_dir=limited.folder) as client:
            assert client.result(client.submit("echo", 42), wait=20) == 42
    finally:
        run.terminate()
        run.communicate()


@contextmanager
def no_descriptor_left() -> Iterator[None]:
    lowest_free = os.dup(0)
    os.close(lowest_free)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.fixture
def harness() -> Iterator[HostHarness]:
    harness = HostHarness("tests.integration.process.host_handlers")
    harness.start()
    yield harness
    harness.close()


def test_each_worker_needs_as_many_descriptors_as_is_said(harness: HostHarness) -> None:
    harness.up(0)
    before = len(open_descriptors())
    harness.up(1)
    assert len(open_descriptors()) - before == FILES_OF_A_WORKER


def test_a_worker_for_which_there_is_no_descriptor_is_refused_and_the_next_one_starts(harness: HostHarness) -> None:
    with no_descriptor_left():
        harness.host.spawn(0)
        ended = harness.wait_for(Exited)
    assert ended.post_mortem == {"why": "too many open files (ulimit -n)"}
    assert harness.up(0)


def test_a_worker_whose_descriptor_is_lost_on_the_way_is_ended(harness: HostHarness, caplog: pytest.LogCaptureFixture,
                                                           monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("ganger"), "propagate", True)
    harness.host.spawn(0)
    with no_descriptor_left():
        while not any("is ended: the pool has too many open files" in record.message for record in caplog.records):
            harness.turn(1.0)
    assert harness.wait_for(Exited).slot == 0
    assert harness.up(0)


def test_processes_are_counted_for_whoever_is_not_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (12, 12))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    need = ulimits.processes(4, 8)
    assert need.shortage() == "at most 12 processes and threads are allowed (ulimit -Hu), and the engine needs 28"
    with pytest.raises(EngineError, match="raise the hard limit"):
        ulimits.provide([need])
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    ulimits.provide([need])


@pytest.mark.parametrize("error", [OSError(errno.EAGAIN, "again"), RuntimeError("can't start new thread"),
                                   OSError(errno.EMFILE, "files")])
def test_a_limit_that_is_met_on_the_way_is_one_line(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended, told_in_one_line(Output()):
        raise error
    assert ended.value.exit_code == Exit.ENGINE
    told = capsys.readouterr().err
    assert "(ulimit -" in told
    assert told.count("\n") == 1


def test_an_order_with_more_descriptors_than_may_be_under_way_goes_later(harness: HostHarness,
                                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    send_fds, refusals = socket.send_fds, [errno.ETOOMANYREFS]

    def send(*args: Any) -> int:
        if refusals:
            raise OSError(refusals.pop(), "too many descriptors are under way")
        return send_fds(*args)

    monkeypatch.setattr(socket, "send_fds", send)
    assert harness.up(0)
    assert refusals == []
