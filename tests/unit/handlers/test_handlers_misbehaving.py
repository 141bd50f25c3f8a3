"""That the misbehaving handlers misbehave: whoever tests the engine with them relies on it."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ganger_handlers import misbehaving

from engine import Cancel, Retry
from engine.tasks.handler_spec import REGISTRY
from tests.unit.handlers.recording_context import Ctx

NAMES = sorted(name for name in REGISTRY if name.startswith("misbehaving."))


@pytest.mark.parametrize("name", NAMES)
def test_each_ends_by_itself_or_by_its_timeout(name: str) -> None:
    spec = REGISTRY[name]
    assert spec.options["timeout"]
    assert "max_retries" in spec.options
    assert spec.function.__doc__
    assert spec.function.__name__ == name.partition(".")[2]


@pytest.mark.parametrize(("name", "status"), [
    ("segfault", -signal.SIGSEGV), ("abort", -signal.SIGABRT), ("kill_itself", -signal.SIGKILL),
    ("exit_hard", 3), ("exit_soft", 4), ("recurse", 1), ("raise_unpicklable", 1),
])
def test_dying(name: str, status: int) -> None:
    program = f"from ganger_handlers import misbehaving; misbehaving.{name}({{}})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert done.returncode == status


@pytest.mark.parametrize("name", ["hang_in_python", "hang_in_c", "deadlock", "ignore_signals", "swallow_everything"])
def test_hanging(name: str) -> None:
    program = f"from ganger_handlers import misbehaving; print('ready', flush=True); misbehaving.{name}({{}})"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)
        process.kill()


def test_a_daemon_outlives_its_run(tmp_path: Path) -> None:
    payload = {"pid_file": str(tmp_path / "pids")}
    program = f"from ganger_handlers import misbehaving; misbehaving.leave_a_daemon({payload})"
    reader, writer = os.pipe()
    with subprocess.Popen([sys.executable, "-c", program], pass_fds=[writer]) as process:
        os.close(writer)
        assert process.wait(20) == 0
    # The daemon holds the pipe's other end: it is alive as long as there is no end of file.
    os.set_blocking(reader, False)
    with pytest.raises(BlockingIOError):
        os.read(reader, 1)
    os.set_blocking(reader, True)
    os.kill(_first_pid(tmp_path / "pids"), signal.SIGKILL)
    assert os.read(reader, 1) == b""
    os.close(reader)


def _first_pid(path: Path) -> int:
    while not (path.exists() and path.read_text().endswith("\n")):
        os.sched_yield()
    return int(path.read_text().split()[0])


def test_failing_and_then_not() -> None:
    ctx: Any = Ctx(attempt=2)
    with pytest.raises(ConnectionError, match="2 of 2"):
        misbehaving.fail_then_succeed({}, ctx)
    ctx = Ctx(attempt=3, run=3)
    assert misbehaving.fail_then_succeed({}, ctx) == {"failures": 2, "run": 3}


def test_asking_for_more_time() -> None:
    ctx: Any = Ctx(run=1)
    with pytest.raises(Retry) as caught:
        misbehaving.ask_for_more_time({"after": 7}, ctx)
    assert caught.value.after == 7
    ctx = Ctx(run=3)
    assert misbehaving.ask_for_more_time({}, ctx) == {"run": 3}


def test_giving_up() -> None:
    with pytest.raises(Cancel, match="nothing to do"):
        misbehaving.give_up({})


def test_small_floods(capfd: pytest.CaptureFixture[str]) -> None:
    misbehaving.flood_stdout({"lines": 2})
    assert capfd.readouterr().out.count("\n") == 1002
    ctx: Any = Ctx()
    misbehaving.flood_progress({"reports": 10}, ctx)
    assert len(ctx.reports) == 10
    assert misbehaving.leak_memory({"mib": 3}, ctx=Ctx()) == {"mib": 3}  # type: ignore[arg-type]
    assert len(misbehaving.return_100_mb({"bytes": 10})) == 10
    assert misbehaving.slow_then_fine({"seconds": 0}) == {"seconds": 0}
