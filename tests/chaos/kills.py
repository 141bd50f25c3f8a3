"""kill -9 of each process of the tree, at each phase of its life: `./dev kills --count 1000`.

After each kill the tree has to be whole again: the same processes with as many descriptors and shared mappings, and
nothing else; and every task has to have ended once, with the right result. A root takes all below it along, and what
starts it (here: we) starts the next.
"""

import argparse
import random
import signal
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil

from engine.core.task.lifecycle import TaskStatus
from tests.chaos.engine_harness import WORKERS, EngineHarness, Held, lives, until

LARGE = "x" * 600_000  # more than a pipe holds
GONE_S_MAX = 2.0  # of what a killed root leaves


class Kills:
    """Every scenario leaves the tree whole.

    `kills` counts what was killed; `gone_s` is how long everything below a killed root took to go.
    """

    def __init__(self, harness: EngineHarness, seed: int) -> None:
        self.harness, self.client, self.random = harness, harness.client, random.Random(seed)
        self.kills: Counter[str] = Counter()
        self.gone_s: list[float] = []

    def _kill(self, what: str, *pids: int) -> None:
        self.harness.kill(*pids)
        self.kills[what] += len(pids)

    def _finish(self, held: Held, run: int, crashes: int) -> None:
        """Let a task go that has been started anew, and see that it ends as it should."""
        held.let_go()
        (task,) = self.harness.ended(held.id)
        assert (task.status, task.result, task.crashes) == (TaskStatus.COMPLETED, run, crashes), task

    # -- workers --------------------------------------------------------------------------------------------------

    def worker_idle(self) -> None:
        self._kill("worker idle", self.random.choice(self.harness.pids("worker")))

    def worker_booting(self) -> None:
        (server,) = self.harness.pids("fork server")
        known = {one.pid for one in psutil.Process(server).children()}
        self._kill("worker idle", self.random.choice(self.harness.pids("worker")))
        self._kill("worker booting", self.harness.newborn("fork server", known))

    def worker_receiving(self) -> None:
        """Both are stopped, so that one has more in its pipe than it has read."""
        workers = self.harness.pids("worker")
        for pid in workers:
            psutil.Process(pid).suspend()
        task = self.client.submit("echo", {"large": LARGE})
        until(lambda: self.client.status(task) is TaskStatus.RUNNING, "it is on its way")
        self._kill("worker receiving", *workers)
        (ended,) = self.harness.ended(task)
        assert ended.result == {"large": LARGE}
        assert ended.crashes <= 1

    def worker_running(self) -> None:
        held = self.harness.submit_held()
        worker, run = held.started()
        self._kill("worker running", worker)
        assert held.started()[1] == run + 1
        self._finish(held, run + 1, 1)

    def worker_sending(self) -> None:
        """The pool is stopped, so that the worker fills its pipe and waits."""
        held = self.harness.submit_held("hold_large")
        worker, _ = held.started()
        pool = psutil.Process(self.harness.pid("pool"))
        pool.suspend()
        held.let_go()
        until(lambda: "pipe" in Path(f"/proc/{worker}/wchan").read_text(), "it waits for room in its pipe")
        self._kill("worker sending", worker)
        pool.resume()
        assert held.started()[1] == 2, "half a result is none"
        held.let_go()
        (ended,) = self.harness.ended(held.id)
        assert len(ended.result) == 600_000
        assert ended.crashes == 1

    def worker_dying(self) -> None:
        """Around the moment at which it is killed for its timeout, grandchild and all."""
        held = self.harness.submit_held("parent", timeout=0.1, max_retries=0)
        worker, grandchild = held.started()
        time.sleep(self.random.uniform(0.08, 0.11))
        self._kill("worker dying", worker)
        (ended,) = self.harness.ended(held.id)  # a second run, after a kill that came first, ends by its timeout too
        assert ended.status is TaskStatus.TIMEOUT
        until(lambda: not psutil.pid_exists(grandchild), "its child has gone")

    # -- the fork server ------------------------------------------------------------------------------------------

    def server_idle(self) -> None:
        self._kill("fork server idle", self.harness.pid("fork server"))

    def server_running(self) -> None:
        held = [self.harness.submit_held() for _ in range(WORKERS)]
        for one in held:
            one.started()
        self._kill("fork server running", self.harness.pid("fork server"))
        for one in held:
            run = one.started()[1]
            self._finish(one, run, 0)

    def server_booting(self) -> None:
        pool = self.harness.pid("pool")
        known = {one.pid for one in psutil.Process(pool).children()}
        self._kill("fork server idle", self.harness.pid("fork server"))
        self._kill("fork server booting", self.harness.newborn("pool", known))

    # -- pool and keeper ------------------------------------------------------------------------------------------

    def pool_idle(self) -> None:
        self._kill("pool idle", self.harness.pid("pool"))

    def pool_running(self) -> None:
        held = [self.harness.submit_held() for _ in range(WORKERS)]
        workers = [one.started()[0] for one in held]
        self._kill("pool running", self.harness.pid("pool"))
        until(lambda: not any(map(lives, workers)), "its workers have gone")
        for one in held:
            assert one.started()[1] == 2, "rescued once"
            self._finish(one, 2, 0)

    def pool_sending(self) -> None:
        """In the middle of many short runs: whatever is under way to Redis may have arrived or not."""
        ids = self.client.submit_many([{"task_type": "echo", "payload": {"n": number}} for number in range(400)])
        until(lambda: self.client.get(ids[0]).status is TaskStatus.COMPLETED, "it has begun", 0.0)
        self._kill("pool sending", self.harness.pid("pool"))
        assert [task.result for task in self.harness.ended(*ids)] == [{"n": number} for number in range(400)]

    def pool_booting(self) -> None:
        known = {one.pid for one in psutil.Process(self.harness.root.pid).children()}
        self._kill("pool idle", self.harness.pid("pool"))
        self._kill("pool booting", self.harness.newborn("root", known))

    def pool_dying(self) -> None:
        held = self.harness.submit_held()
        held.started()
        pool = self.harness.pid("pool")
        psutil.Process(pool).send_signal(signal.SIGTERM)  # it drains, and waits for this run
        self._kill("pool dying", pool)
        assert held.started()[1] == 2
        self._finish(held, 2, 0)

    def keeper_idle(self) -> None:
        self._kill("keeper idle", self.harness.pid("keeper"))

    def keeper_running(self) -> None:
        ids = self.client.submit_many([{"task_type": "echo", "payload": {}, "delay": 0.05}] * 50)
        self._kill("keeper running", self.harness.pid("keeper"))
        assert len(self.harness.ended(*ids)) == 50

    def keeper_booting(self) -> None:
        known = {one.pid for one in psutil.Process(self.harness.root.pid).children()}
        self._kill("keeper idle", self.harness.pid("keeper"))
        self._kill("keeper booting", self.harness.newborn("root", known))

    # -- the root -------------------------------------------------------------------------------------------------

    def root_idle(self) -> None:
        self._end_root("root idle")
        self.harness.start()

    def root_running(self) -> None:
        held = [self.harness.submit_held("parent", timeout=0) for _ in range(WORKERS)]
        pids = [pid for one in held for pid in one.started()]
        self._end_root("root running", *pids)
        for one in held:
            self.client.cancel(one.id)
        self.harness.start()
        for task in self.harness.ended(*(one.id for one in held)):
            assert task.status is TaskStatus.CANCELLED

    def root_dying(self) -> None:
        held = self.harness.submit_held()
        held.started()
        self.harness.root.terminate()
        self._end_root("root dying")
        self.harness.launch()
        assert held.started()[1] == 2
        self._finish(held, 2, 0)

    def root_booting(self) -> None:
        self._end_root("root idle")
        self.harness.launch()
        self.harness.newborn("root", set())
        self._end_root("root booting")
        self.harness.start()

    def _end_root(self, what: str, *others: int) -> None:
        pids = {*self.harness.processes(), *others}
        begin_s = time.monotonic()
        self._kill(what, self.harness.root.pid)
        self.harness.root.wait()
        until(lambda: not any(map(lives, pids)), "everything below it has gone", 0.002)
        self.gone_s.append(time.monotonic() - begin_s)


SCENARIOS: dict[str, int] = {  # and how often each is taken: a worker's life is the shortest
    "worker_idle": 20, "worker_booting": 15, "worker_receiving": 10, "worker_running": 20, "worker_sending": 10,
    "worker_dying": 10, "server_idle": 4, "server_running": 4, "server_booting": 3, "pool_idle": 2, "pool_running": 3,
    "pool_sending": 3, "pool_booting": 2, "pool_dying": 2, "keeper_idle": 3, "keeper_running": 3, "keeper_booting": 2,
    "root_idle": 1, "root_running": 1, "root_dying": 1, "root_booting": 1,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="./dev kills", description=__doc__)
    parser.add_argument("--count", type=int, default=1000, help="how many processes to kill (default: 1000)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=SCENARIOS, help="this scenario alone")
    options = parser.parse_args()
    harness = EngineHarness(Path("/dev/null"))
    kills, took = Kills(harness, options.seed), dict[str, list[float]]()
    harness.start()
    names = [options.only] if options.only else list(SCENARIOS)
    try:
        while kills.kills.total() < options.count:
            (name,) = kills.random.choices(names, [SCENARIOS[one] for one in names])
            begin_s = time.monotonic()
            scenario: Callable[[], None] = getattr(kills, name)
            try:
                scenario()
                harness.await_whole()
            except BaseException:
                print(f"{name}, after {kills.kills.total()} kills (--seed {options.seed}):", file=sys.stderr)
                raise
            took.setdefault(name, []).append(time.monotonic() - begin_s)
    finally:
        harness.close()
    for what, count in sorted(kills.kills.items()):
        print(f"  {what:22} {count:5}")
    print(f"{kills.kills.total()} kills; after each the tree was whole again: {len(harness.baseline)} kinds of "
          "process, no zombie, no descriptor or shared mapping more than at first; every task ended once")
    if kills.gone_s:
        print(f"everything below a killed root was gone after {statistics.median(kills.gone_s):.3f} s "
              f"(longest {max(kills.gone_s):.3f} s of {len(kills.gone_s)})")
    return 0 if max(kills.gone_s, default=0.0) < GONE_S_MAX else 1


if __name__ == "__main__":
    sys.exit(main())
