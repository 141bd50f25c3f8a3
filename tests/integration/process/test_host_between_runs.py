"""What one run leaves in its worker, and what the next one finds; and whose output is whose."""

import os
import select
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from engine.adapters.kernel import descendants
from engine.ports.host import Logged, Replied, Spilled
from tests.integration.process.host_harness import PATIENCE_S, HostHarness, is_alive

LOOK_MS = 100


@pytest.fixture(scope="module")
def harness() -> Iterator[HostHarness]:
    harness = HostHarness("tests.integration.process.host_handlers")
    harness.start()
    yield harness
    harness.close()


@pytest.fixture
def worker(harness: HostHarness) -> HostHarness:
    return harness.ready()


def pid_of(harness: HostHarness) -> int:
    pid = harness.host.pid(0)
    assert pid is not None
    return pid


def wait_until_reaped(pid: int) -> None:
    """Wait until there is not even a zombie. Kernels before Linux 6.9 report no event for that: there, look again."""
    until_s = time.monotonic() + PATIENCE_S
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    reaped = select.poll()
    reaped.register(pidfd, 0)  # POLLHUP comes unasked for
    try:
        while descendants.stat_fields(pid) is not None:
            assert time.monotonic() < until_s, "the orphan was not reaped"
            reaped.poll(LOOK_MS)
    finally:
        os.close(pidfd)


# -- orphans ----------------------------------------------------------------------------------------------------------


def test_orphans_that_die_are_reaped_between_runs_and_while_there_is_no_task(worker: HostHarness) -> None:
    pids = [worker.run("leave_orphan")[1]["result"] for _ in range(5)]
    assert all(map(is_alive, pids))
    worker.run("let_orphans_die")
    for pid in pids:  # the worker has no task now
        wait_until_reaped(pid)
    late = worker.run("leave_orphan")[1]["result"]
    os.kill(late, signal.SIGKILL)
    wait_until_reaped(late)
    assert worker.run("echo", 1)[1]["result"] == 1


def test_exit_codes_of_children_that_a_handler_still_owns_are_left_to_it(worker: HostHarness) -> None:
    orphan = worker.run("leave_orphan")[1]["result"]
    worker.run("own_children")
    worker.run("let_orphans_die")
    wait_until_reaped(orphan)
    assert worker.run("own_children")[1]["result"] == [3, 4, 5]


# -- leftovers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["alarm", "ignored children", "streams", "signals", "limits"])
def test_what_a_run_leaves_does_not_hurt_the_next(worker: HostHarness, what: str) -> None:
    worker.run("leave", what)
    pid = pid_of(worker)
    token = worker.send("try_out")
    assert worker.reply(token)[1]["result"] == 7
    assert [orjson.loads(event.row)["text"] for event in worker.all_of(Logged) if event.token == token] == ["said\n"]
    token, _ = worker.begin("soft_asleep")
    worker.host.interrupt(0, token, b"S")
    assert worker.reply(token)[1]["cause"] == "soft_timeout"
    assert worker.host.pid(0) == pid


def test_a_request_to_end_is_for_the_root_and_children_have_the_signals_of_any_program(
        worker: HostHarness, tmp_path: Path) -> None:
    token, _ = worker.begin("wait_for_file", str(tmp_path / "go"))
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(pid_of(worker), number)
        os.kill(server_pid(worker), number)
    (tmp_path / "go").touch()
    assert worker.reply(token)[0] == b"C"
    assert worker.run("signals_of_children")[1]["result"] == ["SIGTERM"]


def server_pid(harness: HostHarness) -> int:
    fields = descendants.stat_fields(pid_of(harness))
    assert fields is not None
    return int(fields[1])


# -- output -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("handler", ["say_raw_and_fail", "say_raw", "printf"])
def test_output_past_python_of_quick_runs_in_a_row_goes_to_the_run_that_wrote_it(
        worker: HostHarness, handler: str) -> None:
    tokens = {worker.send(handler, number): number for number in range(50)}
    said: dict[int, str] = {}
    text, ended = "", 0
    while ended < 50:
        worker.turn(1.0)
        for event in worker.events:
            if isinstance(event, Spilled):
                text += event.text
            elif isinstance(event, Replied):
                said[tokens[event.token]], text, ended = text, "", ended + 1
        worker.events.clear()
    assert said == {number: f"said by {number}\n" for number in range(50)}


def test_output_past_python_is_labelled_by_its_descriptor(worker: HostHarness) -> None:
    worker.run("say_on_both")
    assert {(event.stream, event.text) for event in worker.all_of(Spilled)} == {
        ("stdout", "out\n"), ("stderr", "error\n")}
