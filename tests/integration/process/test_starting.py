"""The ways in which workers come to be: forked with the imports, forked without, spawned. All else is the same."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.core.task.limits import MIB, Limits
from engine.core.task.outcome import Cause
from engine.core.worker.start_method import Starting
from engine.ports.host import Booted, Exceeded, Exited, HookFailed, Logged, ServerLost, Spilled
from tests.integration.process.host_harness import HostHarness, is_alive

HANDLERS = "tests.integration.process.host_handlers"
LIMITED = "tests.integration.process.limit_handlers"
LIFETIME = "tests.integration.process.lifetime_handlers"
INHERITING = "tests.integration.process.inheriting_handlers"
WAYS = [Starting("fork", preload=False), Starting("spawn")]


@pytest.fixture(scope="module", params=WAYS, ids=["no preload", "spawn"])
def way(request: pytest.FixtureRequest) -> Starting:
    way: Starting = request.param
    return way


@pytest.fixture(scope="module")
def shared(way: Starting) -> Iterator[HostHarness]:
    harness = HostHarness(HANDLERS, starting=way, dump_s=10.0)
    harness.start()
    yield harness
    harness.close()


@pytest.fixture
def limited(way: Starting) -> Iterator[HostHarness]:
    harness = HostHarness(LIMITED, starting=way)
    harness.start()
    harness.up()
    yield harness
    harness.close()


@pytest.fixture
def worker(shared: HostHarness) -> HostHarness:
    return shared.ready()


@pytest.fixture
def lifetime(way: Starting, tmp_path: Path) -> Iterator[HostHarness]:
    harness = HostHarness(LIFETIME, starting=way, environment={"LIFETIME_FOLDER": str(tmp_path)}, stop_s=20.0)
    harness.start()
    yield harness
    harness.close()


def test_handlers_are_known_before_there_is_a_worker(way: Starting) -> None:
    harness = HostHarness(HANDLERS, "tests.no_such_module", starting=way)
    ready = harness.start()
    assert {"echo", "hang_c"} <= {told["name"] for told in ready.handlers}
    assert "ModuleNotFoundError" in ready.failures["tests.no_such_module"]
    harness.up()
    assert harness.run("echo", 5)[1]["result"] == 5, "what failed before does not hinder workers"
    harness.close()


def test_a_run_answers_and_its_output_is_kept(worker: HostHarness) -> None:
    verdict, outcome = worker.run("echo", {"a": [1, None, "ü"]})
    assert (verdict, outcome["result"], outcome["pid"]) == (b"C", {"a": [1, None, "ü"]}, worker.host.pid(0))
    worker.run("talk")
    assert worker.all_of(Logged)
    worker.run("talk_raw")
    assert worker.wait_for(Spilled).text


@pytest.mark.parametrize("handler", ["hang_python", "hang_c"])
def test_a_hung_run_is_killed_with_its_stacks(worker: HostHarness, handler: str) -> None:
    worker.begin(handler)
    mortem = worker.end().post_mortem
    assert mortem is not None
    assert f"in {handler}" in mortem["stacks"]
    below = ("/adapters/process/forkserver/", "worker/process.py", "worker/interrupts.py", "<string>")
    assert not any(name in mortem["stacks"] for name in below)


def test_what_a_run_has_started_ends_with_it(worker: HostHarness) -> None:
    _, said = worker.begin("family", "hang")
    pids = [int(word) for word in said.split()]
    worker.end()
    assert not any(map(is_alive, pids))


def test_a_run_is_held_to_its_limits_and_charged_with_its_own(limited: HostHarness) -> None:
    limited.run("leave_over", {"mib": 150, "idle": 3})
    limited.run("work", {"cpu_s": 0.3})
    limited.host.watch(0, Limits(memory_bytes=100 * MIB))
    limited.send("grow", {"mib": 1000, "mib_per_s": 500})
    assert limited.wait_for(Exceeded).cause is Cause.OUT_OF_MEMORY
    ended = limited.end()
    assert ended.signal == "SIGKILL"
    limited.up()
    limited.begin("rest", {"hold_s": 60})
    assert limited.end().usage["cpu_s"] < 0.25


def test_a_crash_costs_the_worker_alone(limited: HostHarness) -> None:
    limited.send("crash")
    assert limited.wait_for(Exited).signal == "SIGSEGV"
    limited.up()
    assert limited.run("noop")[0] == b"C"


def test_workers_go_with_their_fork_server(way: Starting) -> None:
    harness = HostHarness(HANDLERS, starting=way)
    harness.start()
    pids = [harness.up(slot) for slot in (0, 1)]
    server = int(Path(f"/proc/{pids[0]}/status").read_text().partition("PPid:")[2].split()[0])
    os.kill(server, signal.SIGKILL)
    harness.wait_for(ServerLost)
    assert not any(map(is_alive, pids))
    harness.start()
    harness.up()
    assert harness.run("echo", 1)[0] == b"C"
    harness.close()


def test_a_worker_holds_only_its_own_descriptors(worker: HostHarness) -> None:
    pid = worker.host.pid(0)
    targets = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
    assert len(targets) <= 10, targets
    assert not any("memfd" in target for target in targets)


def test_hooks_run_and_what_was_registered_at_import_is_the_workers(lifetime: HostHarness, tmp_path: Path) -> None:
    pid = lifetime.up()
    assert lifetime.run("state")[1]["result"] == {"connected": pid, "order": True, "pid": pid}
    lifetime.host.quit(0)
    assert lifetime.wait_for(Exited).exitcode == 0
    noted = (tmp_path / "noted").read_text().splitlines()
    assert noted == [f"stop of second {pid}", f"stop of first {pid}", f"atexit of import {pid}", f"finalised {pid}"]


def test_a_failing_hook_is_told(lifetime: HostHarness, tmp_path: Path) -> None:
    (tmp_path / "refuse").touch()
    lifetime.host.spawn(0)
    assert lifetime.wait_for(HookFailed).message == "ConnectionRefusedError: no database"
    assert lifetime.wait_for(Exited).exitcode == 1
    assert lifetime.all_of(Booted) == []


def test_an_import_that_fails_in_a_worker_alone_is_told_as_a_failed_start(way: Starting, tmp_path: Path) -> None:
    (tmp_path / "once.py").write_text(
        "import pathlib\nmark = pathlib.Path(__file__).with_name('mark')\nassert not mark.exists(), 'a second time'\n"
        "mark.touch()\n")
    harness = HostHarness("once", starting=way, sys_path=(str(tmp_path), os.getcwd()))
    harness.start()
    harness.host.spawn(0)
    failed = harness.wait_for(HookFailed)
    assert (failed.at_start, failed.hook, failed.message) == (True, "once", "AssertionError: a second time")
    assert harness.wait_for(Exited).exitcode == 1
    harness.close()


def test_a_generator_of_the_module_is_the_workers_own(lifetime: HostHarness) -> None:
    drawn = []
    for slot in (0, 1):
        lifetime.up(slot)
        drawn.append(tuple(lifetime.run("draw", slot=slot)[1]["result"]))
    assert all(one != other for one, other in zip(*drawn, strict=True))


def test_threads_locks_and_connections_of_the_module_are_the_workers_own(way: Starting) -> None:
    harness = HostHarness(INHERITING, starting=way)
    assert harness.start().inherited == {}
    harness.up()
    assert harness.run("ask-pool")[1]["result"] == 0
    harness.close()


def test_an_import_that_ends_the_process_is_told_and_harms_nobody(way: Starting, tmp_path: Path) -> None:
    (tmp_path / "deadly.py").write_text("import os\nos._exit(3)\n")
    harness = HostHarness("deadly", starting=way, sys_path=(str(tmp_path), os.getcwd()))
    assert "importing ended the process with 3" in harness.start().failures["deadly"]
    harness.close()


def test_a_process_that_an_import_leaves_behind_does_not_keep_the_pool_from_starting(way: Starting,
                                                                                     tmp_path: Path) -> None:
    (tmp_path / "lasting.py").write_text(
        "import os, signal\nfrom engine import handler\n"
        "if os.fork() == 0:\n    signal.pause()\n    os._exit(0)\n"
        "@handler('plain')\ndef plain(payload): return payload\n")
    harness = HostHarness("lasting", starting=way, sys_path=(str(tmp_path), os.getcwd()))
    assert [told["name"] for told in harness.start().handlers] == ["plain"]
    harness.up()
    assert harness.run("plain", 5)[1]["result"] == 5
    harness.close()


def test_a_handler_that_asks_for_another_way_is_left_out_with_the_remedy(way: Starting, tmp_path: Path) -> None:
    (tmp_path / "choosy.py").write_text(
        "from engine import handler\n"
        "@handler('plain')\ndef plain(payload): ...\n"
        "@handler('forked', preload=True)\ndef forked(payload): ...\n"
        "@handler('fresh', preload=False)\ndef fresh(payload): ...\n")
    for others, told in (((), True), ((Starting(),), False)):
        harness = HostHarness("choosy", starting=way, others=others, sys_path=(str(tmp_path), os.getcwd()))
        ready = harness.start()
        assert {one["name"] for one in ready.handlers} == {"plain", "fresh"}
        assert ("forked" in ready.failures) == told
        if told:
            assert "give it a pool of its own, [pools.NAME] with preload = true" in ready.failures["forked"]
        harness.close()
