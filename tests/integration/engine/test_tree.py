"""The whole tree on real processes and a real Redis: killed at each joint, drained, reloaded; nothing is lost."""

import contextlib
import os
import resource
import select
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from engine.cli.commands.tree import forest
from engine.cli.snapshot import take
from engine.client import Client
from engine.core.measure.usage_history import past
from engine.core.task.lifecycle import TaskStatus
from engine.scheduler import Scheduler
from tests.redis_server import RedisServer, binaries

HANDLERS = "tests.integration.engine.tree_handlers"
WAIT_S = 30


class Tree:
    """A running engine, its processes by title, and pipes to hold its handlers with."""

    def __init__(self, url: str, folder: Path, **settings: Any) -> None:
        self.folder = folder
        self.scheduler = Scheduler(redis_url=url, **{
            "handlers": [HANDLERS], "max_workers": 2, "shutdown_grace_s": 10, **settings})
        self.scheduler.start()
        self.client = self.scheduler.client
        self._pipes = 0

    @property
    def root(self) -> psutil.Process:
        return psutil.Process(self.scheduler.status().pid)

    def processes(self) -> dict[int, str]:
        """Those that live, with their titles; one that ends while we look is not among them."""
        root, found = self.root, {}
        for one in [root, *root.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                found[one.pid] = " ".join(one.cmdline())
        return found

    def pid_of(self, title: str) -> int:
        return next(pid for pid, name in self.processes().items() if name.startswith(f"ganger: {title}"))

    def kill(self, pid: int) -> None:
        """Kill and wait until it is gone."""
        pidfd = os.pidfd_open(pid)
        os.kill(pid, signal.SIGKILL)
        assert select.select([pidfd], [], [], WAIT_S)[0]
        os.close(pidfd)

    def held(self, task_type: str = "hold", **options: Any) -> "Held":
        self._pipes += 1
        names = {name: str(self.folder / f"{name}{self._pipes}") for name in ("started", "go")}
        for name in names.values():
            os.mkfifo(name)
        return Held(self.client.submit(task_type, names, **options), names)

    def ended(self, *ids: str) -> list[Any]:
        tasks = self.client.wait(ids, timeout=WAIT_S)
        assert len(tasks) == len(ids)
        return tasks


def told_of(tree: Tree, holds: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    """What `ganger tree --json` tells of each process, by its title, once that holds."""
    limit_s = time.monotonic() + WAIT_S
    with Client(settings=tree.client.settings) as client:
        while time.monotonic() < limit_s:
            found, left = {}, forest(take(client))
            while left:
                node = left.pop()
                left += node["children"]
                found[node["title"].removeprefix("ganger: ")] = node
            if any(name.startswith("keeper") for name in found) and holds(found):
                return found
    raise AssertionError(f"not within {WAIT_S} s: {found}")


class Held:
    """A task that waits to be let go."""

    def __init__(self, task_id: str, names: dict[str, str]) -> None:
        self.id, self.names = task_id, names

    def started(self) -> list[int]:
        """Wait until it runs; what it said of itself."""
        with open(self.names["started"]) as pipe:
            return [int(word) for word in pipe.read().split()]

    def let_go(self) -> None:
        with open(self.names["go"], "w"):
            pass


@pytest.fixture
def tree(redis_url: str, tmp_path: Path) -> Iterator[Tree]:
    tree = Tree(redis_url, tmp_path)
    yield tree
    tree.scheduler.close()


def gone(pids: list[int]) -> None:
    """Wait until none of these processes exists; they may go while we look at them."""
    there = []
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            there.append(psutil.Process(pid))
    _, alive = psutil.wait_procs(there, timeout=WAIT_S)
    assert not alive


def test_a_killed_worker_costs_the_task_a_crash_and_nothing_else(tree: Tree) -> None:
    task = tree.held(timeout=30)
    worker, _ = task.started()
    tree.kill(worker)
    assert task.started()[1] == 2
    task.let_go()
    ended = tree.ended(task.id)[0]
    assert (ended.status, ended.result, ended.attempts, ended.crashes) == (TaskStatus.COMPLETED, 2, 0, 1)


def test_a_root_that_gets_no_descriptor_and_no_process_goes_on_with_its_runs_and_tries_again(tree: Tree) -> None:
    task = tree.held()
    worker, _ = task.started()
    root, keeper = tree.root, tree.pid_of("keeper")
    before = resource.prlimit(root.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(root.pid, resource.RLIMIT_NOFILE, (0, before[1]))
    tree.kill(keeper)
    gone([keeper])
    root.send_signal(signal.SIGHUP)
    for _ in range(3):  # the root has had its turns meanwhile
        tree.ended(tree.client.submit("echo", {}))
    assert root.is_running()
    assert lives(worker)
    resource.prlimit(root.pid, resource.RLIMIT_NOFILE, before)
    task.let_go()
    assert tree.ended(task.id)[0].result == 1, "its run was not disturbed"
    told_of(tree, lambda found: {"keeper 2", "pool default 2"} <= found.keys() and "pool default" not in found)


def test_a_pool_that_gets_no_descriptor_goes_on_with_its_runs_and_tries_again(redis_url: str, tmp_path: Path) -> None:
    """First for a worker, then for the fork server: only their two deaths are charged."""
    tree = Tree(redis_url, tmp_path, restart_intensity=2)
    try:
        task = tree.held()
        worker, _ = task.started()
        pool, server = tree.pid_of("pool"), tree.pid_of("fork server")
        other = next(pid for pid, title in tree.processes().items()
                     if title.startswith("ganger: worker") and pid != worker)
        before = resource.prlimit(pool, resource.RLIMIT_NOFILE)
        resource.prlimit(pool, resource.RLIMIT_NOFILE, (0, before[1]))
        tree.kill(other)
        gone([other])
        told_of(tree, lambda found: "worker 1" not in found or "worker 0" not in found)
        assert lives(worker)
        resource.prlimit(pool, resource.RLIMIT_NOFILE, before)
        assert tree.ended(tree.client.submit("echo", {"n": 1}))[0].result == {"n": 1}
        resource.prlimit(pool, resource.RLIMIT_NOFILE, (0, before[1]))
        ends = os.pidfd_open(worker)
        tree.kill(server)
        assert select.select([ends], [], [], WAIT_S)[0]
        os.close(ends)
        resource.prlimit(pool, resource.RLIMIT_NOFILE, before)
        assert task.started()[1] == 2
        task.let_go()
        assert tree.ended(task.id)[0].result == 2
        assert tree.pid_of("pool") == pool
    finally:
        tree.scheduler.close()


def test_a_killed_fork_server_is_nobodys_fault(tree: Tree) -> None:
    task = tree.held()
    task.started()
    tree.kill(tree.pid_of("fork server"))
    assert task.started()[1] == 2
    task.let_go()
    ended = tree.ended(task.id)[0]
    assert (ended.result, ended.attempts, ended.crashes) == (2, 0, 0)


@pytest.mark.parametrize("is_pool_killed", [False, True])
def test_the_runs_of_a_stopped_tree_are_ended_before_others_start_them(redis_url: str, tmp_path: Path,
                                                                       is_pool_killed: bool) -> None:
    """Root, pool and fork server stand still for longer than the lease, the workers do not; or the pool is dead and
    the others stand still. Another engine of the same kernel takes the run."""
    first = Tree(redis_url, tmp_path, lease_s=2)
    task = first.held("parent")
    before = task.started()
    second = Tree(redis_url, tmp_path)
    root, pool, server = first.root.pid, first.pid_of("pool"), first.pid_of("fork server")
    for pid in (root, pool, server):
        os.kill(pid, signal.SIGSTOP)
    try:
        if is_pool_killed:
            first.kill(pool)
        after = task.started()
        assert not any(map(lives, [*before, pool, server])), "the run before it, and what that had started, have ended"
        assert set(after).isdisjoint(before)
        second.client.cancel(task.id)
        assert second.ended(task.id)[0].status is TaskStatus.CANCELLED
    finally:
        os.kill(root, signal.SIGCONT)
        first.scheduler.close()
        second.scheduler.close()


def lives(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    return False


def test_the_runs_of_a_killed_pool_are_ended_and_rescued(tree: Tree) -> None:
    task = tree.held()
    worker, _ = task.started()
    tree.kill(tree.pid_of("pool"))
    gone([worker])
    assert task.started()[1] == 2
    task.let_go()
    ended = tree.ended(task.id)[0]
    assert (ended.result, ended.attempts, ended.crashes) == (2, 0, 0)


def test_a_killed_keeper_is_replaced(tree: Tree) -> None:
    tree.kill(tree.pid_of("keeper"))
    assert tree.client.result(tree.client.submit("echo", {"n": 1}, delay=0.05), wait=WAIT_S) == {"n": 1}


def test_the_tree_tells_what_those_before_have_died_of(tree: Tree) -> None:
    task = tree.held()
    worker, _ = task.started()
    tree.kill(worker)
    task.started()
    tree.kill(tree.pid_of("keeper"))
    told = told_of(tree, lambda told: told["keeper"]["last_death"] and any(
        node["last_death"] for name, node in told.items() if name.startswith("worker ")))
    [died] = [node for name, node in told.items() if name.startswith("worker ") and node["last_death"]]
    assert (died["restarts"], died["last_death"]["cause"], died["last_death"]["task"]) == (
        1, "killed by SIGKILL", task.id)
    assert (told["keeper"]["restarts"], told["keeper"]["last_death"]["cause"]) == (1, "killed by SIGKILL")
    assert all(0 <= node["age_s"] < 2 * WAIT_S for node in told.values())

    tree.kill(tree.pid_of("fork server"))
    task.started()
    server = told_of(tree, lambda told: told["fork server default"]["last_death"])["fork server default"]
    assert (server["restarts"], server["last_death"]["cause"]) == (1, "the fork server was killed by signal 9")
    tree.kill(tree.pid_of("pool"))
    task.started()
    pool = told_of(tree, lambda told: "pool default" in told and told["pool default"]["restarts"])["pool default"]
    assert pool["last_death"]["cause"] == "killed by SIGKILL"
    task.let_go()
    tree.ended(task.id)


def test_the_history_of_each_process_is_kept_in_redis(tree: Tree) -> None:
    with Client(settings=tree.client.settings) as client:
        broker, limit_s = client._provider.broker(), time.monotonic() + WAIT_S
        [report] = broker.supervisors()
        entries: list[dict[str, Any]] = []
        while not entries or "worker default/1" not in entries[0]["rows"]:
            assert time.monotonic() < limit_s
            entries = broker.history(report["host"], report["root_pid"])
    for name in ("root", "keeper", "pool default", "fork server default", "worker default/0", "worker default/1"):
        told = past(entries, name)[-1]
        assert told["rss_bytes"] > 1_000_000
        assert told["threads"] >= 1
        assert told["context_switches_per_s"] >= 0


def test_a_killed_root_takes_everything_with_it(tree: Tree) -> None:
    task = tree.held("parent")
    worker, grandchild = task.started()
    pids = list(tree.processes())
    tree.kill(tree.root.pid)
    gone([*pids, worker, grandchild])


def test_a_run_that_left_a_child_in_another_session_takes_it_along(tree: Tree) -> None:
    task = tree.held("parent", timeout=0.3)
    worker, grandchild = task.started()
    assert tree.ended(task.id)[0].status is TaskStatus.TIMEOUT
    gone([worker, grandchild])


def test_draining_lets_runs_finish_and_gives_the_rest_back(tree: Tree) -> None:
    running = [tree.held() for _ in range(2)]
    for task in running:
        task.started()
    waiting = [tree.client.submit("echo", {}) for _ in range(5)]
    root = tree.root
    root.send_signal(signal.SIGTERM)
    limit_s = time.monotonic() + WAIT_S
    while not all(report["draining"] for report in tree.client.workers()):
        assert time.monotonic() < limit_s
    for task in running:
        task.let_go()
    assert root.wait(WAIT_S) == 0
    assert [task.status for task in tree.ended(*(task.id for task in running))] == [TaskStatus.COMPLETED] * 2
    assert {tree.client.status(task_id) for task_id in waiting} == {TaskStatus.QUEUED}
    assert tree.client.workers() == [], "it has said farewell"


def test_a_second_signal_stops_at_once_and_gives_back_what_runs(tree: Tree) -> None:
    task = tree.held()
    worker, _ = task.started()
    root, pids = tree.root, list(tree.processes())
    root.send_signal(signal.SIGTERM)
    root.send_signal(signal.SIGINT)
    assert root.wait(WAIT_S) == 0
    gone([*pids, worker])
    assert tree.client.get(task.id).status is TaskStatus.QUEUED
    assert tree.client.get(task.id).attempts == tree.client.get(task.id).crashes == 0


def test_a_run_that_outlasts_the_grace_is_given_back(redis_url: str, tmp_path: Path) -> None:
    tree = Tree(redis_url, tmp_path, shutdown_grace_s=0.2)
    task = tree.held()
    task.started()
    tree.scheduler.stop()
    assert tree.client.status(task.id) is TaskStatus.QUEUED
    tree.scheduler.close()


def test_a_reload_brings_new_processes_and_loses_nothing(tree: Tree) -> None:
    before = tree.client.result(tree.client.submit("pid", {}), wait=WAIT_S)
    running, old_pool = tree.held(), tree.pid_of("pool")
    running.started()
    waiting = [tree.client.submit("echo", {"n": n}) for n in range(20)]
    tree.root.send_signal(signal.SIGHUP)
    gone_soon = psutil.Process(old_pool)
    assert all(task.status is TaskStatus.COMPLETED for task in tree.ended(*waiting))
    running.let_go()
    assert tree.ended(running.id)[0].run == 1, "it went on where it was"
    gone_soon.wait(WAIT_S)
    assert tree.client.result(tree.client.submit("pid", {}), wait=WAIT_S) != before


def test_two_engines_share_the_load_and_one_takes_over_from_the_other(redis_url: str, tmp_path: Path) -> None:
    one, other = Tree(redis_url, tmp_path / "a"), Tree(redis_url, tmp_path / "b")
    for tree in (one, other):
        tree.folder.mkdir()
    tasks = [one.held(), one.held(), one.held(), one.held()]
    workers = [task.started()[0] for task in tasks]
    assert len(set(workers)) == 4, "two slots each"
    pids = list(one.processes())
    one.kill(one.root.pid)
    gone(pids)
    mine = [task for task, worker in zip(tasks, workers, strict=True) if worker in pids]
    theirs = [task for task in tasks if task not in mine]
    assert len(mine) == len(theirs) == 2
    for task in theirs:
        task.let_go()
    for task in mine:
        assert task.started()[1] == 2
        task.let_go()
    assert [task.result for task in other.ended(*(task.id for task in theirs))] == [1, 1]
    assert [task.result for task in other.ended(*(task.id for task in mine))] == [2, 2]
    for tree in (one, other):
        tree.scheduler.close()


def test_a_restart_of_redis_neither_loses_nor_repeats_what_runs(tmp_path: Path) -> None:
    server = RedisServer(binaries()[0], appendonly="yes", appendfsync="always")
    tree = Tree(server.url, tmp_path)
    task = tree.held()
    task.started()
    waiting = tree.client.submit("echo", {"n": 1}, queue="default")
    server.kill()
    task.let_go()
    server.start()
    first, second = tree.ended(task.id, waiting)
    assert (first.status, first.result, second.result) == (TaskStatus.COMPLETED, 1, {"n": 1})
    tree.scheduler.close()
    server.stop()


def test_cancelling_a_run_really_ends_it(tree: Tree) -> None:
    task = tree.held("parent")
    _, grandchild = task.started()
    assert tree.client.cancel(task.id, "no longer wanted") is TaskStatus.RUNNING
    ended = tree.ended(task.id)[0]
    assert (ended.status, ended.error.message) == (TaskStatus.CANCELLED, "no longer wanted")
    gone([grandchild])


def test_a_handler_submits_to_the_engine_that_runs_it(tree: Tree) -> None:
    inner = tree.client.result(tree.client.submit("submits", {"n": 3}), wait=WAIT_S)
    assert tree.client.result(inner, wait=WAIT_S) == {"n": 3}
