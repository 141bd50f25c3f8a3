"""Workers that are a few fields each. They keep the promises of `ports.Host`, and no others: what they say comes late.

Duties
1. Read messages in order, one run at a time; answer in order.
2. Die when they are told to, when somebody kills them, with their fork server, or with their pool.
3. Tell the ledger when a run really begins and ends, which the pool cannot know.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any

import orjson

from engine.core.worker import frames
from engine.ports.host import Booted, Exited, Replied, ServerLost, ServerReady
from tests.world.clock import Timeline
from tests.world.ledger import BrokenPromise, Ledger, Start

if TYPE_CHECKING:
    from tests.world.tree import Machine

CAUSES = {b"C": "returned", b"E": "raised", b"A": "retry_asked", b"X": "cancelled", b"S": "soft_timeout",
          b"I": "cancelled"}


@dataclass(slots=True, eq=False)
class Worker:
    slot: int
    pid: int
    pipe: deque[bytes] = field(default_factory=deque)
    is_up: bool = False
    has_ended: bool = False
    is_being_killed: bool = False  # the pool wants it dead
    stopped_until_s: float = 0.0
    token: int | None = None  # of the run under way
    task_id: str = ""
    run: int = 0
    start: Start | None = None
    latest: Start | None = None  # also when it has ended, since the pool may not have heard of it
    spoke_s: float = 0.0  # when its last word arrives


class WorldHost:
    """`behave(task id, run)` says how long a run takes, and its verdict, or None for one that ends its process."""

    def __init__(self, timeline: Timeline, random: Random, ledger: Ledger, name: str, machine: "Machine",
                 slowness: float, types: frozenset[str], wake: Callable[[], None],
                 behave: Callable[[str, int], tuple[float, bytes | None, bool]]) -> None:
        self.timeline, self.random, self.ledger, self.name, self.machine = timeline, random, ledger, name, machine
        self.wake, self.behave, self.slowness, self.types = wake, behave, slowness, types
        self.workers: dict[int, Worker] = {}
        self.happened: list[Any] = []
        self.is_server_up = False
        self.is_dead = False
        self._server = 0  # which fork server

    # -- what the pool asks ---------------------------------------------------------------------------------------

    def start(self) -> None:
        self._server += 1
        self._later(0.3, self._ready, self._server)

    def stop(self) -> None:
        for worker in list(self.workers.values()):
            self._end_run(worker, "killed")
            worker.has_ended = True
        self.workers.clear()

    def spawn(self, slot: int) -> None:
        assert slot not in self.workers, "one process per slot"
        pid = next(self.machine.pids)
        worker = self.workers[slot] = Worker(slot, pid)
        self.machine.processes[pid] = lambda: not worker.has_ended
        if not self.is_server_up:
            self._exit(worker, None, stranded=True)
        elif self.random.random() < 0.02 * self.slowness:
            self._later(0.05, self._die, worker, "SIGKILL")
        else:
            self._later(0.05, self._boot, worker)

    def send(self, slot: int, message: bytes) -> None:
        worker = self.workers[slot]
        if message[:1] == frames.TASK:
            kind = orjson.loads(message[frames.TASK_HEAD.size : message.index(b"\n", frames.TASK_HEAD.size)])[0]
            if kind not in self.types:
                raise BrokenPromise(f"{self.name} was given a task of type {kind}, which it cannot run")
        worker.pipe.append(message)
        self._read_soon(worker)

    def take_back(self, slot: int) -> list[bytes]:
        if slot not in self.workers:
            return []
        pipe = self.workers[slot].pipe
        taken = [message for message in pipe if message[:1] == frames.TASK]
        rest = [message for message in pipe if message[:1] != frames.TASK]
        pipe.clear()
        pipe.extend(rest)
        return taken

    def interrupt(self, slot: int, token: int, reason: bytes) -> None:
        if slot in self.workers:
            self._later(0.01, self._interrupted, self.workers[slot], token, b"S" if reason == b"S" else b"I")

    def quit(self, slot: int) -> None:
        if slot in self.workers:
            self.send(slot, frames.QUIT)

    def kill(self, slot: int, why: str) -> None:
        worker = self.workers.get(slot)
        if worker is not None and not worker.is_being_killed:
            worker.is_being_killed = True
            if worker.latest is not None:
                worker.latest.is_being_killed = True
            self._later(0.1, self._die, worker, "SIGKILL")

    def dump(self, slot: int) -> None: ...

    def pid(self, slot: int) -> int | None:
        return self.workers[slot].pid if slot in self.workers else None

    def processes(self) -> list[tuple[int, int]]:
        return [(worker.pid, 1) for worker in self.workers.values()]

    def next_deadline_s(self) -> float | None:
        return None

    def tick(self, now_s: float) -> None: ...

    def events(self) -> list[Any]:
        happened, self.happened = self.happened, []
        return happened

    # -- what is done to it ---------------------------------------------------------------------------------------

    def crash(self) -> None:
        """The pool has died; its workers die with it."""
        self.is_dead = True
        for worker in self.workers.values():
            self.timeline.after(self.random.uniform(0, 0.2), self._die, worker, "SIGKILL")

    def kill_worker(self) -> None:
        """A SIGKILL that the pool has not sent."""
        if self.workers:
            self._die(self.random.choice(list(self.workers.values())), "SIGKILL")

    def stop_worker(self, for_s: float) -> None:
        if self.workers:
            worker = self.random.choice(list(self.workers.values()))
            worker.stopped_until_s = self.timeline.now_s + for_s

    def kill_server(self) -> None:
        if self.is_server_up:
            self.is_server_up = False
            for worker in list(self.workers.values()):
                self._die(worker, None)
            last_s = max([self.timeline.now_s, *(worker.spoke_s for worker in self.workers.values())])
            self.timeline.at(last_s + 0.01, self._lost, self._server)

    # -- the life of workers --------------------------------------------------------------------------------------

    def _later(self, most_s: float, do: Callable[..., None], *args: Any) -> None:
        self.timeline.after(self.random.uniform(0, most_s) * self.slowness, do, *args)

    def _say(self, worker: Worker, event: Any) -> None:
        """Tell the pool, in order, some time later."""
        delay_s = self.random.uniform(0, 0.001) if self.random.random() < 0.9 else self.random.uniform(0, 0.2)
        worker.spoke_s = max(worker.spoke_s + 1e-6, self.timeline.now_s + delay_s * self.slowness)
        self.timeline.at(worker.spoke_s, self._hear, event)

    def _hear(self, event: Any) -> None:
        if type(event) is Exited:
            worker = self.workers.pop(event.slot)
            event.unread = [message for message in worker.pipe if message != frames.QUIT]
        self.happened.append(event)
        self.wake()

    def _ready(self, server: int) -> None:
        if server == self._server:
            self.is_server_up = True
            self._hear(ServerReady([{"name": name} for name in sorted(self.types)], {}))

    def _lost(self, server: int) -> None:
        if self.workers:  # their ends are told before
            self.timeline.after(0.01, self._lost, server)
        else:
            self._hear(ServerLost("killed"))

    def _boot(self, worker: Worker) -> None:
        if not worker.has_ended:
            worker.is_up = True
            self._say(worker, Booted(worker.slot, worker.pid))
            self._read_soon(worker)

    def _read_soon(self, worker: Worker) -> None:
        self._later(0.0005, self._read, worker)

    def _read(self, worker: Worker) -> None:
        if worker.has_ended or not worker.is_up or worker.token is not None or not worker.pipe:
            return
        if worker.stopped_until_s > self.timeline.now_s:
            self.timeline.at(worker.stopped_until_s, self._read, worker)
            return
        message = worker.pipe.popleft()
        if message == frames.QUIT:
            self._exit(worker, 0)
            return
        _, worker.token, worker.run, _, _, task_id = frames.TASK_HEAD.unpack_from(message)
        worker.task_id = task_id.decode()
        worker.start = worker.latest = self.ledger.started(
            worker.task_id, worker.run, self.machine.name, f"{self.name}/{worker.slot}")
        worker.start.is_being_killed = worker.is_being_killed
        takes_s, verdict, _ = self.behave(worker.task_id, worker.run)
        if takes_s < float("inf"):
            self.timeline.after(takes_s, self._finish, worker, worker.token, verdict)

    def _finish(self, worker: Worker, token: int, verdict: bytes | None) -> None:
        if worker.has_ended or worker.token != token:
            return
        if worker.stopped_until_s > self.timeline.now_s:
            self.timeline.at(worker.stopped_until_s, self._finish, worker, token, verdict)
        elif verdict is None:
            self._die(worker, None)
        else:
            self._answer(worker, verdict)

    def _answer(self, worker: Worker, verdict: bytes) -> None:
        assert worker.start is not None
        assert worker.token is not None
        wall_us = int((self.timeline.now_s - worker.start.at_s) * 1e6)
        body = orjson.dumps({"run": worker.run, "cause": CAUSES[verdict], "error": {"message": ""},
                             "retry_after": 0.5})
        self._end_run(worker, verdict.decode())
        self._say(worker, Replied(worker.slot, worker.token, verdict, wall_us, body))
        worker.token = None
        self._read_soon(worker)

    def _interrupted(self, worker: Worker, token: int, verdict: bytes) -> None:
        if worker.token != token or worker.has_ended or worker.stopped_until_s > self.timeline.now_s:
            return
        if self.behave(worker.task_id, worker.run)[2]:
            self._answer(worker, verdict)

    def _die(self, worker: Worker, signal: str | None) -> None:
        """End a worker by a signal. Without one it ends with its fork server, or exits by itself."""
        if worker.has_ended:
            return
        stranded = signal is None and not self.is_server_up
        how = "stranded" if stranded else "killed" if worker.is_being_killed or self.is_dead else "died"
        self._end_run(worker, how)
        self._exit(worker, None if signal or stranded else 3, signal=signal, stranded=stranded)

    def _end_run(self, worker: Worker, how: str) -> None:
        if worker.start is not None and worker.start.ended_s is None:
            self.ledger.ended(worker.start, how)
        worker.start = None

    def _exit(self, worker: Worker, code: int | None, *, signal: str | None = None, stranded: bool = False) -> None:
        worker.has_ended, worker.is_up = True, False
        self._say(worker, Exited(worker.slot, worker.pid, code, signal, {}, None, stranded=stranded))
