"""How workers end: killed, by themselves, with their children, with the fork server. Nothing of them may be left."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from engine.adapters.kernel import descendants
from engine.ports.host import Dumped, Exited, Logged, Replied, ServerLost
from tests.integration.process.host_harness import HostHarness, is_alive, open_descriptors

HANDLERS = "tests.integration.process.host_handlers"
LIMITED = "tests.integration.process.limit_handlers"
FRAMES_BELOW_HANDLERS = ("/adapters/process/forkserver/", "worker/process.py", "worker/interrupts.py", "<string>")
PATIENT_S = 5.0  # for stacks: on a machine that is busy with other tests, a worker may not get a processor in 10 ms


@pytest.fixture
def harness() -> Iterator[HostHarness]:
    harness = HostHarness(HANDLERS, dump_s=PATIENT_S)
    harness.start()
    harness.up()
    yield harness
    harness.close()


@pytest.fixture(scope="module")
def shared() -> Iterator[HostHarness]:
    """For tests that leave the host as it was."""
    harness = HostHarness(HANDLERS, dump_s=PATIENT_S)
    harness.start()
    yield harness
    harness.close()


@pytest.fixture
def worker(shared: HostHarness) -> HostHarness:
    return shared.ready()


# -- kill -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("handler", ["hang_python", "hang_c"])
def test_a_hung_run_is_killed_and_says_where_it_hung(worker: HostHarness, handler: str) -> None:
    worker.begin(handler)
    pid = worker.host.pid(0)
    ended = worker.end(why="timeout")
    assert (ended.signal, ended.exitcode, ended.pid) == ("SIGKILL", None, pid)
    mortem = ended.post_mortem
    assert mortem is not None
    assert (mortem["why"], mortem["sender"]) == ("timeout", "supervisor")
    assert f"in {handler}" in mortem["stacks"]
    assert not any(name in mortem["stacks"] for name in FRAMES_BELOW_HANDLERS)
    assert mortem["proc"]["state"] == "running"
    assert mortem["proc"]["rss_bytes"] > 5_000_000
    assert ended.usage["peak_rss_bytes"] > 5_000_000


def test_all_threads_of_a_hung_run_are_told(worker: HostHarness) -> None:
    worker.begin("hang_threads")
    mortem = worker.end().post_mortem
    assert mortem is not None
    assert "in _park" in mortem["stacks"]
    assert "in hang_c" in mortem["stacks"]
    assert mortem["proc"]["threads"] == 2


def test_a_run_that_blocks_every_signal_dies_all_the_same(worker: HostHarness) -> None:
    worker.begin("hang_deaf")
    ended = worker.end()
    assert ended.signal == "SIGKILL"
    assert ended.post_mortem is not None
    assert ended.post_mortem["stacks"] == ""
    assert ended.post_mortem["no_stacks"] == "it blocks or ignores SIGUSR2"
    assert ended.post_mortem["proc"]["state"] == "running"


def test_a_run_that_took_the_signal_for_stacks_over_is_told_to_have_given_none() -> None:
    harness = HostHarness(HANDLERS, dump_s=0.05)
    harness.start()
    harness.up()
    harness.begin("hang_own_sigusr2")
    mortem = harness.end().post_mortem
    harness.close()
    assert mortem is not None
    assert (mortem["stacks"], mortem["no_stacks"]) == ("", "it did not answer within 0.05 s")


def test_a_worker_without_a_processor_for_a_while_tells_its_stacks_all_the_same() -> None:
    """As in a container whose share of the processor is used up: it stops for 50 to 90 ms."""
    harness = HostHarness(HANDLERS)
    harness.start()
    pid = harness.up()
    harness.begin("hang_python")
    os.kill(pid, signal.SIGSTOP)
    harness.host.kill(0, "timeout")
    os.kill(pid, signal.SIGSTOP)
    harness.poller.wait(0.09)
    harness.host.tick(time.monotonic())
    os.kill(pid, signal.SIGCONT)
    mortem = harness.wait_for(Exited).post_mortem
    harness.close()
    assert mortem is not None
    assert "hang_python" in mortem["stacks"]
    assert "no_stacks" not in mortem


# -- what it has used -------------------------------------------------------------------------------------------------


def test_a_killed_run_has_used_only_its_own_cpu_time() -> None:
    harness = HostHarness(LIMITED)
    harness.start()
    harness.up()
    _, outcome = harness.run("work", {"cpu_s": 0.5})
    assert outcome["cpu_s"] >= 0.5
    harness.begin("rest", {"hold_s": 60})
    ended = harness.end()
    harness.close()
    assert ended.usage["cpu_s"] < 0.25


def test_what_a_killed_run_has_started_counts_with_it() -> None:
    harness = HostHarness(LIMITED)
    harness.start()
    harness.up()
    harness.begin("work_below", {"cpu_s": 0.5, "mib": 150})
    ended = harness.end()
    harness.close()
    assert ended.usage["cpu_s"] >= 0.45
    assert ended.usage["peak_rss_bytes"] > 150 << 20


def test_what_earlier_runs_have_left_does_not_count_with_a_killed_one() -> None:
    harness = HostHarness(LIMITED)
    harness.start()
    harness.up()
    harness.run("leave_over", {"busy": 1})
    harness.run("work", {"cpu_s": 0.3})
    harness.begin("rest", {"hold_s": 60})
    ended = harness.end()
    harness.close()
    assert ended.usage["cpu_s"] < 0.15


def test_a_crashed_run_has_used_only_its_own_cpu_time() -> None:
    harness = HostHarness(LIMITED)
    harness.start()
    harness.up()
    harness.run("work", {"cpu_s": 0.5})
    harness.send("crash")
    ended = harness.wait_for(Exited)
    harness.close()
    assert ended.usage["cpu_s"] < 0.25


def test_killing_twice_is_killing_once(worker: HostHarness) -> None:
    worker.begin("hang_python")
    worker.host.kill(0, "first")
    worker.host.kill(0, "second")
    ended = worker.wait_for(Exited)
    assert ended.post_mortem is not None
    assert ended.post_mortem["why"] == "first"
    worker.up()
    assert worker.all_of(Exited) == []


def test_a_worker_can_be_killed_before_it_is_there(worker: HostHarness) -> None:
    worker.host.spawn(5)
    worker.host.kill(5, "too slow")
    assert worker.wait_for(Exited, lambda event: event.slot == 5).signal == "SIGKILL"


def test_a_stopped_worker_neither_blocks_the_host_nor_outlives_its_kill(worker: HostHarness) -> None:
    _, _ = worker.begin("hang_python")
    pid = worker.host.pid(0)
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    tokens = [worker.send("echo", "x" * 1_000_000) for _ in range(3)]
    assert len(worker.host.take_back(0)) == len(tokens)
    for _ in range(200):
        worker.send("echo", "x" * 2_000)
    ended = worker.end()
    assert ended.signal == "SIGKILL"
    assert len(ended.unread) == 200
    assert ended.post_mortem is not None
    assert "hang_python" in ended.post_mortem["stacks"]


@pytest.mark.parametrize("way", ["kill", "exit"])
def test_children_in_other_sessions_die_with_their_worker(worker: HostHarness, way: str) -> None:
    if way == "kill":
        _, said = worker.begin("family", "hang")
        pids = [int(word) for word in said.split()]
        assert all(map(is_alive, pids))
        ended = worker.end()
        assert ended.signal == "SIGKILL"
    else:
        _, said = worker.begin("family", "exit")
        pids = [int(word) for word in said.split()]
        ended = worker.wait_for(Exited)
        assert ended.exitcode == 0
    assert not any(map(is_alive, pids))
    assert len(pids) == 3


# -- deaths of its own ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("how", "code", "name", "sender"), [
    ("os._exit", 7, None, None), ("segfault", None, "SIGSEGV", "itself"), ("abort", None, "SIGABRT", "itself"),
    ("suicide", None, "SIGKILL", "unknown")])
def test_a_worker_that_dies_says_how(worker: HostHarness, how: str, code: int | None, name: str | None,
                                     sender: str | None) -> None:
    worker.send("talk")
    worker.send("misbehave", how)
    worker.send("noop")
    ended = worker.wait_for(Exited)
    assert (ended.exitcode, ended.signal) == (code, name)
    assert ended.post_mortem is not None
    assert ended.post_mortem["sender"] == sender
    assert len(ended.unread) == 1
    assert len(worker.all_of(Replied)) == 1
    assert len(worker.all_of(Logged)) == 6
    if name in ("SIGSEGV", "SIGABRT"):
        assert "Fatal Python error" in ended.post_mortem["stacks"]
        assert "in misbehave" in ended.post_mortem["stacks"]


def test_a_worker_quits_after_its_work(worker: HostHarness) -> None:
    token = worker.send("echo", 1)
    worker.host.quit(0)
    ended = worker.wait_for(Exited)
    assert (ended.exitcode, ended.post_mortem) == (0, None)
    assert worker.reply(token)[1]["result"] == 1


# -- taking back ------------------------------------------------------------------------------------------------------


def test_what_is_behind_a_long_run_is_taken_back_and_never_run(worker: HostHarness, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    first, _ = worker.begin("wait_for_file", str(gate))
    sent = [worker.send("echo", "x" * size) for size in (1, 100_000, 3)]
    large = worker.send("echo", "y" * 900_000)  # more than the pipe holds: a part of it waits in the host
    worker.host.quit(0)
    taken = worker.host.take_back(0)
    assert [int.from_bytes(message[1:5], "little") for message in taken] == [*sent, large]
    assert [len(message) > 100_000 for message in taken] == [False, True, False, True]
    gate.touch()
    worker.reply(first)
    assert worker.wait_for(Exited).exitcode == 0  # the order to quit was left in
    assert worker.all_of(Replied) == []


def test_taking_back_never_tears_a_message(worker: HostHarness) -> None:
    """While the worker reads a long message: it gets all of it, or nothing."""
    for size in (1_000_000, 900_000, 300_000, 5_000) * 10:
        token = worker.send("echo", "x" * size)
        if worker.host.take_back(0):
            token = worker.send("echo", "x" * size)
        assert len(worker.reply(token)[1]["result"]) == size


# -- soft interrupts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("reason", "verdict", "cause", "kind"), [
    (b"S", b"S", "soft_timeout", "SoftTimeout"), (b"C", b"I", "cancelled", "TaskInterrupted")])
@pytest.mark.parametrize("handler", ["soft", "soft_asleep", "chatter", "finaliser"])
def test_an_interrupt_ends_the_run_and_only_it(worker: HostHarness, handler: str, reason: bytes, verdict: bytes,
                                               cause: str, kind: str) -> None:
    token, _ = worker.begin(handler)
    behind = worker.send("echo", 2)
    worker.host.interrupt(0, token, reason)  # type: ignore[arg-type]
    got, outcome = worker.reply(token)
    assert (got, outcome["cause"], outcome["error"]["kind"]) == (verdict, cause, kind)
    assert worker.reply(behind)[1]["result"] == 2


def test_a_handler_may_clean_up(worker: HostHarness) -> None:
    token, _ = worker.begin("soft", "clean up")
    worker.host.interrupt(0, token, b"S")
    assert worker.reply(token)[1]["result"] == "cleaned up after SoftTimeout"


def test_an_interrupt_for_another_run_does_nothing(worker: HostHarness, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    earlier = worker.send("noop")
    worker.reply(earlier)
    token, _ = worker.begin("wait_for_file", str(gate))
    worker.host.interrupt(0, earlier, b"S")
    worker.host.dump(0)  # when this is answered, the signal before it has been, too
    worker.wait_for(Dumped)
    gate.touch()
    assert worker.reply(token)[0] == b"C"


def test_an_interrupt_that_comes_early_waits_for_its_run(worker: HostHarness, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    first, _ = worker.begin("wait_for_file", str(gate))
    second = worker.send("soft")
    worker.host.interrupt(0, second, b"C")
    gate.touch()
    assert worker.reply(first)[0] == b"C"
    assert worker.reply(second)[0] == b"I"


def test_a_shield_holds_until_its_end(worker: HostHarness, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    token, _ = worker.begin("shielded", str(gate))
    worker.host.interrupt(0, token, b"S")
    worker.host.dump(0)
    assert "in shielded" in worker.wait_for(Dumped).text
    gate.touch()
    assert worker.reply(token)[1]["cause"] == "soft_timeout"


def test_interrupts_in_a_storm_hit_only_their_runs(worker: HostHarness) -> None:
    """Each of many short runs is interrupted at some moment of its life; none may end the worker or a neighbour."""
    verdicts = []
    for _ in range(400):
        token = worker.send("noop")
        worker.host.interrupt(0, token, b"S")
        behind = worker.send("echo", 3)
        verdicts.append(worker.reply(token)[0])
        assert worker.reply(behind)[1]["result"] == 3
    assert set(verdicts) <= {b"C", b"S"}


# -- stacks of the living ---------------------------------------------------------------------------------------------


def test_a_dump_leaves_the_run_unharmed(worker: HostHarness, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    token, _ = worker.begin("wait_for_file", str(gate))
    for _ in range(3):
        worker.host.dump(0)
        assert "in wait_for_file" in worker.wait_for(Dumped).text
    gate.touch()
    assert worker.reply(token)[0] == b"C"
    worker.host.dump(7)  # where nobody is
    assert worker.wait_for(Dumped).text == ""


# -- the fork server and the pool -------------------------------------------------------------------------------------


def test_the_death_of_the_fork_server_takes_everything_with_it(harness: HostHarness) -> None:
    _, said = harness.begin("family", "hang")
    pids = [int(word) for word in said.split()] + [harness.host.pid(0) or 0]
    harness.host.spawn(1)
    (server,) = set(descendants.children(os.getpid())) - set(harness._children)
    os.kill(server, signal.SIGKILL)
    lost = harness.wait_for(ServerLost)
    assert "signal 9" in lost.reason
    ended = harness.all_of(Exited)
    assert sorted(event.slot for event in ended) == [0, 1]
    assert all(event.stranded for event in ended)
    assert not any(map(is_alive, pids))
    assert descendants.children(os.getpid()) == harness._children
    harness.start()
    harness.up()
    assert harness.run("echo", 1)[1]["result"] == 1


def test_a_worker_spawned_without_a_fork_server_is_reported_as_gone() -> None:
    harness = HostHarness(HANDLERS, dump_s=PATIENT_S)
    harness.host.spawn(0)
    assert harness.wait_for(Exited).stranded
    harness.close()


def test_stopping_ends_a_whole_family(harness: HostHarness) -> None:
    _, said = harness.begin("family", "hang")
    harness.host.stop()
    assert not any(is_alive(int(word)) for word in said.split())


def test_stopping_does_not_wait_for_a_hanging_import(tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    (tmp_path / "hanging_handlers.py").write_text(f"open({str(flag)!r}, 'w')\nwhile True: pass\n")
    harness = HostHarness("hanging_handlers", sys_path=(str(tmp_path), *_paths()))
    harness.host.start()
    while not flag.exists():
        harness.turn(0.01)
    harness.close()


def test_the_death_of_the_pool_ends_everything(tmp_path: Path) -> None:
    """A pool in a process of its own, killed with -9. We adopt what it leaves, so nothing can hide."""
    from engine.adapters.kernel import prctl

    prctl.adopt_orphans()
    reader, writer = os.pipe()
    before = descendants.children(os.getpid())
    pool = os.fork()
    if pool == 0:
        os.close(reader)
        try:
            harness = HostHarness(HANDLERS, dump_s=PATIENT_S)
            harness.start()
            harness.up()
            _, said = harness.begin("family", "hang")
            os.write(writer, orjson.dumps([harness.host.pid(0), *map(int, said.split())]))
            signal.pause()
        finally:
            os._exit(1)
    os.close(writer)
    pids = orjson.loads(os.read(reader, 1000))
    pool_fd = os.pidfd_open(pool)
    os.kill(pool, signal.SIGKILL)
    os.waitpid(pool, 0)
    os.close(pool_fd)
    for pid in set(descendants.children(os.getpid())) - set(before):
        os.waitpid(pid, 0)  # the fork server: it goes when all below it has gone
    assert not any(map(is_alive, pids))
    os.close(reader)


def test_nothing_leaks_over_many_lives(harness: HostHarness) -> None:
    harness.end()
    before = open_descriptors()
    for number in range(60):
        harness.up()
        if number % 3 == 0:
            harness.begin("hang_python")
            harness.end()
        elif number % 3 == 1:
            harness.send("misbehave", "segfault")
            harness.wait_for(Exited)
        else:
            harness.host.quit(0)
            harness.wait_for(Exited)
        harness.events.clear()
    assert len(open_descriptors()) == len(before)


def test_two_workers_are_independent(worker: HostHarness) -> None:
    worker.up(1)
    worker.begin("hang_c", slot=1)
    assert worker.run("echo", 1)[1]["result"] == 1
    assert worker.end(1).slot == 1
    assert worker.run("echo", 2)[1]["result"] == 2


def _paths() -> list[str]:
    import sys

    return [path or os.getcwd() for path in sys.path]


