"""One world: two hosts with a pool and a keeper each, clients, and a nemesis, for as long as it takes.

The nemesis has its time; then everything is healed, and every task that was submitted has to end.
"""

from collections.abc import Callable
from contextlib import suppress
from random import Random

from engine.core.task.lifecycle import FINAL, Move
from engine.core.task.priority import TaskPriority
from engine.core.task.record import Record, RecordOptions
from engine.core.task.task_id import task_ids
from engine.errors import MoveRefused
from engine.ports.supervisor_broker import Handed, Woken
from engine.testing.model import ReferenceModel
from engine.testing.model.store import ModelTask, Observer
from tests.world.clock import REDIS_MS, Timeline
from tests.world.ledger import ENDS, BrokenPromise, Ledger, TaskHistory, waits_for_long
from tests.world.nemesis import Nemesis
from tests.world.network import Network
from tests.world.tree import KeeperProcess, Machine, PoolProcess

QUEUE = "q"
FAULTS_S = 30.0
ENDS_S_MAX = 200.0  # from the last fault to the end of the last task: rescues and retries included
OPTIONS: dict[str, RecordOptions] = {
    "hangs": {"timeout": 3.0}, "soft": {"timeout": 8.0, "soft_timeout": 2.0}, "fails": {"max_retries": 1},
    "cancels": {"timeout": 1000.0},  # nothing but its cancel ends it
}


class WorldObserver(Observer):
    """Tells the ledger what Redis has done, and reaches the processes through the network."""

    net: Network

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def changed(self, task_id: str) -> None:
        self.ledger.changed(task_id)

    def claimed(self, task_id: str, run: int, supervisor: str) -> None:
        self.ledger.claimed(task_id, run, supervisor)

    def moved(self, task_id: str, run: int, move: Move, charged_to: str, by: str, outcome: bytes) -> None:
        self.ledger.moved(task_id, run, move, charged_to, by, outcome)

    def forgotten(self, supervisor: str) -> None:
        self.ledger.forgotten(supervisor)

    def notify(self, supervisor: str) -> bool:
        return self.net.notify(supervisor, Woken())

    def hand_over(self, supervisor: str, task: ModelTask) -> bool:
        return self.net.notify(supervisor, Handed(task.id.encode(), task.record.encode()))

    def notify_keeper(self) -> None:
        self.net.notify_keepers()


class World:
    def __init__(self, seed: int, trace: Callable[[str], None] | None = None) -> None:
        self.random = random = Random(seed)
        self.timeline = timeline = Timeline()
        self.told = trace
        self.ledger = ledger = Ledger(lambda: timeline.now_s, self._trace if trace else lambda text: None)
        observer = WorldObserver(ledger)
        self.model = ReferenceModel(observer)
        self.store = self.model.store
        observer.net = self.net = net = Network(timeline, random, self.model, random.choice([0.01, 0.2, 1.5]))
        is_local = random.random() < 0.2  # all on the host of Redis, on a Unix socket
        self.machines = [Machine(name, timeline, random) for name in (["here"] if is_local else ["left", "right"])]
        slots, window = random.randint(1, 3), random.choice([1, 4])
        self.pools = [PoolProcess(net, ledger, self.machines[number % len(self.machines)], random, label, slots, window,
                                  self.behave, fences=not is_local) for number, label in enumerate("ab")]
        self.keepers = [KeeperProcess(net, machine, random) for machine in self.machines]
        self.nemesis = Nemesis(net, ledger, random, self.machines, self.pools, self.keepers,
                               random.choice([1.0, 4.0, 12.0]), is_local=is_local)
        self._ids = task_ids(int(REDIS_MS), 0)

    def run(self) -> Ledger:
        """Raises `BrokenPromise`."""
        for _ in range(self.random.randint(3, 16)):
            self.timeline.at(self.random.uniform(0, FAULTS_S), self._submit, self.random.choice(list(ENDS)))
        for number in range(self.random.randint(0, 12)):
            self.timeline.at(self.random.uniform(0, FAULTS_S), self._send_command, f"command {number}")
        self.nemesis.inject_until(FAULTS_S)
        self._pass_until(FAULTS_S, lambda: False)
        self._heal()
        self._pass_until(self.timeline.now_s + ENDS_S_MAX, self._is_over)
        self.ledger.close(self.store, self.net.redis_ms())
        return self.ledger

    def _pass_until(self, moment_s: float, has_ended: Callable[[], bool]) -> None:
        while self.timeline.now_s < moment_s and not has_ended():
            self.timeline.run_until(min(moment_s, self.timeline.now_s + 0.5))
            self.ledger.look(self.store)

    def _heal(self) -> None:
        self.ledger.trace("all is healed")
        self.net.heal()
        for process in (*self.pools, *self.keepers):
            process.resumes_s = 0.0
            process.wake()
        for pool in self.pools:
            for worker in pool.host.workers.values():
                worker.stopped_until_s = 0.0
            pool.deployed = frozenset(ENDS)
            if pool.host.types != pool.deployed:
                pool.drain()

    def _is_over(self) -> bool:
        return not self.ledger.commands and all(history.is_confirmed and task_id in self.store.tasks and (
            self.store.tasks[task_id].state.status in FINAL or waits_for_long(self.store, task_id, self.net.redis_ms()))
            for task_id, history in self.ledger.histories.items())

    # -- clients --------------------------------------------------------------------------------------------------

    def _submit(self, kind: str) -> None:
        random, now_ms = self.random, int(self.net.redis_ms())
        task_id = next(self._ids)
        options = RecordOptions(**OPTIONS.get(kind, {}))
        if kind == "expires":
            options["expires_ms"] = now_ms + random.randint(0, 10_000)
        elif random.random() < 0.15:
            options["due_ms"] = now_ms + random.randint(0, 8_000)
        if kind in ("short", "long", "exits") and random.random() < 0.3:
            options["max_deliveries"] = 1
        record = Record(kind, QUEUE, random.choice(list(TaskPriority)), now_ms, b"{}", options)
        self.ledger.histories[task_id] = TaskHistory(kind)
        self._tell(task_id, record)
        if kind == "cancels":
            self.timeline.after(random.uniform(0, 10), self._cancel, task_id)

    def _tell(self, task_id: str, record: Record) -> None:
        """Submit until it is confirmed. A call may arrive although its client has given up on it."""
        net, history = self.net, self.ledger.histories[task_id]
        if net.takes_writes and net.silent_until_s <= self.timeline.now_s:
            self.model.client.submit(task_id, record, int(net.redis_ms()))
            history.is_confirmed = self.random.random() < 0.8
        elif not net.is_down and self.random.random() < 0.2:
            self.timeline.at(net.silent_until_s + 0.01, self._arrives_late, task_id, record)
        if not history.is_confirmed:
            self.timeline.after(0.5, self._tell, task_id, record)

    def _arrives_late(self, task_id: str, record: Record) -> None:
        if self.net.takes_writes:
            self.model.client.submit(task_id, record, int(self.net.redis_ms()))

    def _send_command(self, command: str) -> None:
        if self.net.takes_writes and self.net.silent_until_s <= self.timeline.now_s:
            self.random.choice(self.pools).send_command(command)

    def _cancel(self, task_id: str) -> None:
        """Cancel, until Redis has the request. It holds then, whatever becomes of the run and of its supervisor."""
        net, history = self.net, self.ledger.histories[task_id]
        can = net.takes_writes and net.silent_until_s <= self.timeline.now_s
        if can and task_id in self.store.tasks:
            history.is_cancelled = True
            with suppress(MoveRefused):  # it has ended
                self.model.client.cancel(task_id, "nobody wants it", int(net.redis_ms()))
            return
        self.timeline.after(2.0, self._cancel, task_id)

    # -- handlers -------------------------------------------------------------------------------------------------

    def behave(self, task_id: str, run: int) -> tuple[float, bytes | None, bool]:
        """How long a run takes, its verdict, and whether it ends when it is interrupted."""
        random, history = self.random, self.ledger.histories[task_id]
        forever = float("inf")
        failed = sum(start.how in "EA" for starts in history.starts.values() for start in starts if start.how)
        match history.kind:
            case "quick" | "expires":
                return 0.0001, b"C", True
            case "long":
                return random.uniform(1, 12), b"C", False
            case "flaky":
                return 0.01, b"C" if failed else b"E", True
            case "asks":
                return 0.01, b"C" if failed else b"A", True
            case "fails":
                return 0.005, b"E", True
            case "exits":
                return random.uniform(0, 0.5), None, True
            case "hangs":
                return forever, None, False
            case "soft":
                return forever, None, True
            case "cancels":
                return forever, None, random.random() < 0.5
        return random.uniform(0, 0.05), b"C", True

    def _trace(self, text: str) -> None:
        assert self.told is not None
        self.told(f"{self.timeline.now_s:9.3f}  {text}")


def play(seed: int, trace: Callable[[str], None] | None = None) -> Ledger:
    """One world from its beginning to its end. Raises `BrokenPromise`, or whatever the engine raised in it."""
    return World(seed, trace).run()


__all__ = ["BrokenPromise", "World", "play"]
