"""What a worker does once: hooks, seeds, and all that is to happen at its end. Real processes, no Redis."""

import gzip
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from engine.core.worker.frames import NO_RUN
from engine.ports.host import Booted, Exited, HookFailed, Logged
from tests.integration.process.host_harness import HostHarness

HANDLERS = "tests.integration.process.lifetime_handlers"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def harness(folder: Path) -> Iterator[HostHarness]:
    harness = HostHarness(HANDLERS, environment={"LIFETIME_FOLDER": str(folder)}, stop_s=20.0)
    harness.start()
    yield harness
    harness.close()


def noted(folder: Path) -> list[str]:
    return (folder / "noted").read_text().splitlines()


def quit_worker(harness: HostHarness, slot: int = 0) -> Exited:
    harness.host.quit(slot)
    ended = harness.wait_for(Exited, lambda event: event.slot == slot)
    assert (ended.exitcode, ended.signal) == (0, None)
    return ended


# -- hooks ------------------------------------------------------------------------------------------------------------


def test_start_hooks_run_in_each_worker_in_their_order_before_its_first_run(harness: HostHarness) -> None:
    for slot in (0, 1):
        pid = harness.up(slot)
        assert harness.run("state", slot=slot)[1]["result"] == {"connected": pid, "order": True, "pid": pid}


def test_what_a_start_hook_prints_and_logs_belongs_to_no_run(harness: HostHarness) -> None:
    harness.up()
    rows = [(event.token, orjson.loads(event.row)) for event in harness.all_of(Logged)]
    assert [(token, row["stream"], row["level"], row["text"]) for token, row in rows] == [
        (NO_RUN, "stdout", None, "connected\n"), (NO_RUN, "log", "WARNING", "careful"),
        (NO_RUN, "stdout", None, "no newline")]
    harness.run("state")
    assert harness.all_of(Logged) == []


def test_a_worker_whose_start_hook_raises_does_not_come_up_and_says_why(harness: HostHarness, folder: Path) -> None:
    (folder / "refuse").touch()
    harness.host.spawn(0)
    failed = harness.wait_for(HookFailed)
    assert (failed.slot, failed.at_start, failed.hook) == (0, True, f"{HANDLERS}:connect")
    assert failed.message == "ConnectionRefusedError: no database"
    assert 'in connect\n    raise ConnectionRefusedError("no database")' in failed.traceback
    assert "lifetime.py" not in failed.traceback
    assert harness.wait_for(Exited).exitcode == 1
    assert harness.all_of(Booted) == []


def test_a_start_hook_that_hangs_is_killed_with_its_stacks(harness: HostHarness, folder: Path) -> None:
    """It has no name but in its stacks, and those come as soon as its worker could be asked for them."""
    (folder / "hang").touch()
    harness.host.spawn(0)
    while not harness.host.pid(0):
        harness.turn(1.0)
    pid = harness.host.pid(0)
    while b"connect" not in stacks_of(harness, pid):
        harness.turn(0.01)
    harness.host.kill(0, "not up in time")
    mortem = harness.wait_for(Exited).post_mortem
    assert mortem is not None
    assert "in connect" in mortem["stacks"]


def stacks_of(harness: HostHarness, pid: int | None) -> bytes:
    """"connect" once the worker sleeps in its hook: it catches SIGUSR2 and waits for a lock."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = int(next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt")), 16)
    is_asleep = "futex" in Path(f"/proc/{pid}/wchan").read_text()
    return b"connect" if caught & (1 << 11) and is_asleep else b""


def test_stop_hooks_run_in_the_opposite_order_when_a_worker_ends_in_good_order(
        harness: HostHarness, folder: Path) -> None:
    pid = harness.up()
    quit_worker(harness)
    assert noted(folder) == [f"stop of second {pid}", f"stop of first {pid}"]


def test_a_stop_hook_that_raises_is_told_and_hinders_no_other(harness: HostHarness, folder: Path) -> None:
    (folder / "raise-at-stop").touch()
    pid = harness.up()
    quit_worker(harness)
    failed = harness.wait_for(HookFailed)
    assert (failed.at_start, failed.hook) == (False, f"{HANDLERS}:second_registered")
    assert failed.message == "RuntimeError: cannot say goodbye"
    assert noted(folder) == [f"stop of second {pid}", f"stop of first {pid}"]


def test_a_killed_worker_runs_no_stop_hook(harness: HostHarness, folder: Path) -> None:
    harness.up()
    harness.end()
    assert not (folder / "noted").exists()


def test_a_stop_hook_that_hangs_is_given_up_and_files_are_flushed_all_the_same(folder: Path) -> None:
    (folder / "hang-at-stop").touch()
    harness = HostHarness(HANDLERS, environment={"LIFETIME_FOLDER": str(folder)}, stop_s=0.3)
    harness.start()
    harness.up()
    harness.run("leave-behind")
    quit_worker(harness)
    failed = harness.wait_for(HookFailed)
    harness.close()
    assert (failed.at_start, failed.message) == (False, "not done after 0.3 s (worker_stop_s)")
    assert "in second_registered" in failed.traceback
    assert (folder / "rows").read_text() == "a row\n"


# -- the end ----------------------------------------------------------------------------------------------------------


def test_at_its_end_a_worker_finishes_what_a_program_would_finish(harness: HostHarness, folder: Path) -> None:
    pid = harness.up()
    assert harness.run("leave-behind")[1]["result"] == pid
    quit_worker(harness)
    assert (folder / "rows").read_text() == "a row\n"
    with gzip.open(folder / "rows.gz", "rt") as file:
        assert file.read() == "a packed row\n"
    assert noted(folder) == [f"stop of second {pid}", f"stop of first {pid}", f"thread {pid}",
                             f"finalised in run {pid}", f"atexit of run {pid}"]


def test_what_was_registered_at_import_happens_once_in_the_fork_server(folder: Path) -> None:
    harness = HostHarness(HANDLERS, environment={"LIFETIME_FOLDER": str(folder)})
    harness.start()
    pids = {harness.up(slot) for slot in (0, 1)}
    for slot in (0, 1):
        quit_worker(harness, slot)
    assert not any("import" in line or "finalised" in line for line in noted(folder))
    harness.close()
    (exits,) = [line.rpartition(" ")[2] for line in noted(folder) if line.startswith("atexit of import")]
    assert int(exits) not in pids


def test_what_was_written_at_import_is_written_once(harness: HostHarness, folder: Path) -> None:
    for slot in (0, 1):
        harness.up(slot)
        harness.run("leave-behind", slot=slot)
        quit_worker(harness, slot)
    assert (folder / "early").read_text() == "import\nrun\nrun\n"


# -- random numbers ---------------------------------------------------------------------------------------------------


def test_fresh_workers_do_not_draw_the_same_random_numbers(harness: HostHarness) -> None:
    drawn = []
    for _ in range(3):
        harness.up()
        drawn.append(harness.run("draw")[1]["result"])
        quit_worker(harness)
    numpys, pythons, generators = ({draw[which] for draw in drawn} for which in range(3))
    assert len(numpys) == len(pythons) == 3
    assert len(generators) == 1, "a generator of the module is a copy: docs/libraries.md says so"
