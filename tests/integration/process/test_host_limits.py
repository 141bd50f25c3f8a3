"""What a run uses, and what happens when it is too much: on real processes, by sampling."""

import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from engine.core.task.limits import MIB, Limits
from engine.core.task.outcome import Cause
from engine.ports.host import Exceeded, Exited, Grown
from tests.integration.process.host_harness import HostHarness


@pytest.fixture(scope="module")
def harness() -> Iterator[HostHarness]:
    harness = HostHarness("tests.integration.process.limit_handlers", dump_s=5.0)
    harness.start()
    yield harness
    harness.close()


def begin(harness: HostHarness, limits: Limits, task_type: str, **payload: Any) -> int:
    """Have a run watched from its beginning on."""
    if harness.host.pid(0) is None:
        harness.up()
    harness.events.clear()
    harness.host.watch(0, limits)
    return harness.send(task_type, payload)


def end(harness: HostHarness) -> dict[str, Any]:
    mortem = harness.end(why="over its limit").post_mortem
    assert mortem is not None
    return mortem


def test_a_run_that_grows_beyond_its_memory_is_noticed_in_time(harness: HostHarness) -> None:
    limits = Limits(memory_bytes=200 * MIB)
    begin(harness, limits, "grow", mib=2000, mib_per_s=500)
    found = harness.wait_for(Exceeded)
    assert (found.slot, found.limits, found.cause) == (0, limits, Cause.OUT_OF_MEMORY)
    assert "over its max_memory of 200.0 MiB" in found.message
    mortem = end(harness)
    assert "in grow" in mortem["stacks"]
    usage = mortem["usage"]
    assert usage["limits"] == {"max_memory": 200 * MIB}
    assert 200 * MIB < usage["memory_bytes"] < 1000 * MIB


def test_what_a_child_in_another_session_uses_counts(harness: HostHarness) -> None:
    begin(harness, Limits(memory_bytes=150 * MIB), "grow_below", mib=400)
    found = harness.wait_for(Exceeded)
    assert found.cause is Cause.OUT_OF_MEMORY
    assert "3 processes" in found.message or "2 processes" in found.message
    assert end(harness)["signal"] == "SIGKILL"


def test_memory_that_is_shared_counts_once(harness: HostHarness) -> None:
    token = begin(harness, Limits(memory_bytes=200 * MIB), "share", mib=80, children=4, write=False, hold_s=0.5)
    assert harness.reply(token)[0] == b"C"
    assert not harness.all_of(Exceeded)
    harness.host.unwatch(0)


def test_memory_that_was_shared_and_is_written_to_counts_for_each(harness: HostHarness) -> None:
    begin(harness, Limits(memory_bytes=200 * MIB), "share", mib=80, children=4, write=True, hold_s=30)
    found = harness.wait_for(Exceeded)
    assert "5 processes" in found.message
    end(harness)


# -- what earlier runs have left ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("left", "limits"), [
    ({"mib": 300}, Limits(memory_bytes=200 * MIB)),
    ({"idle": 5}, Limits(processes=3)),
    ({"busy": 2}, Limits(cpu_s=0.2)),
    ({"mib": 150, "idle": 5, "busy": 1}, Limits(memory_bytes=100 * MIB, processes=3, cpu_s=0.2)),
], ids=["memory", "processes", "cpu time", "all"])
@pytest.mark.parametrize("reaps", [False, True], ids=["", "and waits for them"])
def test_what_an_earlier_run_has_left_is_not_charged(left: dict[str, int], limits: Limits, reaps: bool) -> None:
    harness = HostHarness("tests.integration.process.limit_handlers")
    harness.start()
    harness.up()
    harness.run("leave_over", left)
    token = begin(harness, limits, "rest", hold_s=0.7, reap=reaps)
    assert harness.reply(token)[0] == b"C"
    assert harness.all_of(Exceeded) == []
    harness.close()


def test_a_run_is_charged_with_its_own_beside_what_was_left(harness: HostHarness) -> None:
    harness.up()
    harness.run("leave_over", {"mib": 300, "idle": 5})
    begin(harness, Limits(memory_bytes=200 * MIB), "grow", mib=2000, mib_per_s=500)
    found = harness.wait_for(Exceeded)
    assert "in 1 process, over its max_memory of 200.0 MiB" in found.message
    mortem = end(harness)
    assert 200 * MIB < mortem["usage"]["memory_bytes"] < 1000 * MIB


def test_processes_beside_those_that_were_left_count(harness: HostHarness) -> None:
    harness.up()
    harness.run("leave_over", {"idle": 5})
    begin(harness, Limits(processes=3), "multiply", children=4, hold_s=60)
    message = harness.wait_for(Exceeded).message
    assert message in [f"it has {count} processes, over its max_processes of 3" for count in (4, 5)]
    end(harness)


# -- CPU time and processes ------------------------------------------------------------------------------------------


def test_cpu_time_of_the_whole_tree_is_limited(harness: HostHarness) -> None:
    begin(harness, Limits(cpu_s=0.3), "burn")
    found = harness.wait_for(Exceeded)
    assert found.cause is Cause.CPU_TIME
    assert "over its max_cpu_seconds of 0.3" in found.message
    assert end(harness)["usage"]["cpu_s"] > 0.3


def test_the_number_of_processes_is_limited(harness: HostHarness) -> None:
    token = begin(harness, Limits(processes=5), "multiply", children=4, hold_s=0.2)
    assert harness.reply(token)[0] == b"C"
    end(harness)
    begin(harness, Limits(processes=5), "multiply", children=5, hold_s=60)
    found = harness.wait_for(Exceeded)
    assert (found.cause, found.message) == (Cause.PROCESSES, "it has 6 processes, over its max_processes of 5")
    end(harness)


def test_nobody_looks_at_a_run_that_has_ended(harness: HostHarness) -> None:
    token = begin(harness, Limits(memory_bytes=MIB), "noop")
    harness.host.unwatch(0)
    harness.reply(token)
    assert harness.host.next_deadline_s() is None or harness.host.next_deadline_s() == 0.0
    harness.events.clear()
    end(harness)
    harness.host.unwatch(0)  # by a pool that has not heard of the end


def test_a_nice_run_and_its_children_step_back(harness: HostHarness) -> None:
    token = begin(harness, Limits(nice=7), "niceness")
    assert harness.reply(token)[1]["result"] == [7, 7]
    end(harness)


def test_watching_costs_little(harness: HostHarness) -> None:
    """A look at a run far from its limit is a few files of /proc, at most some dozens a second."""
    begin(harness, Limits(memory_bytes=4000 * MIB, cpu_s=60, processes=100), "multiply", children=2, hold_s=30)
    until_s = time.monotonic() + 1.0
    begun_s = time.thread_time()
    while time.monotonic() < until_s:
        harness.turn(0.1)
    assert time.thread_time() - begun_s < 0.25
    end(harness)


@pytest.fixture
def small_cgroup() -> Iterator[str]:
    """A memory cgroup of 64 MiB, of either version."""
    group = make_memory_cgroup(64 * MIB)
    if group is None:
        pytest.skip("no memory cgroup can be made here (that takes root, or a delegated cgroup)")
    yield group
    os.rmdir(group)


def make_memory_cgroup(size: int) -> str | None:
    for parent, limit, swap in (("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.swappiness"),
                                ("/sys/fs/cgroup", "memory.max", "memory.swap.max")):
        group = f"{parent}/ganger-test-{os.getpid()}"
        try:
            os.mkdir(group)
        except OSError:
            continue
        if os.access(f"{group}/{limit}", os.W_OK):
            for name, value in ((limit, size), (swap, 0)):
                with open(f"{group}/{name}", "w") as file:
                    file.write(str(value))
            return group
        os.rmdir(group)
    return None


def test_the_kernels_oom_killer_is_told_from_other_senders(harness: HostHarness, small_cgroup: str) -> None:
    if harness.host.pid(0) is None:
        harness.up()
    harness.begin("fill_cgroup", {"group": small_cgroup, "mib": 200})
    ended = harness.wait_for(Exited)
    assert ended.signal == "SIGKILL"
    assert ended.oom is not None
    assert ended.post_mortem is not None
    assert ended.post_mortem["sender"] == "oom_killer"
    pid = harness.up()
    os.kill(pid, signal.SIGKILL)
    ended = harness.wait_for(Exited)
    assert (ended.signal, ended.oom) == ("SIGKILL", None)


def test_a_worker_goes_before_its_supervisor_when_memory_runs_out(harness: HostHarness) -> None:
    pid = harness.host.pid(0) or harness.up()
    with open(f"/proc/{pid}/oom_score_adj") as file:
        assert int(file.read()) >= 500


def test_a_worker_that_keeps_what_it_takes_is_told_of_once_and_one_that_gives_it_back_is_not() -> None:
    harness = HostHarness("tests.integration.process.limit_handlers", growth_bytes_max=50 * MIB)
    harness.start()
    harness.up()
    assert harness.run("leak", {"keeps": False, "mib": 200})[0] == b"C"
    harness.run("noop")
    assert not harness.all_of(Grown)
    harness.run("leak", {"keeps": True, "mib": 30})
    while not harness.all_of(Grown):
        harness.run("leak", {"keeps": True, "mib": 2})
    held = harness.run("leak", {"keeps": False, "mib": 1})[1]["peak_rss_bytes"]
    assert 50 * MIB < held < 400 * MIB
    assert not harness.all_of(Grown)
    harness.close()
