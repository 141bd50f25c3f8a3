"""Many workers in one process: a fork server that forks none, and answers for each of them from one loop.

The pool, its pipes and Redis are real, down to the packet; only the work is not: a task is taken when the one before
it is done, and answered when the payload's `s` seconds have passed. So a machine of two cores can have a pool serve as
many workers as a large machine would, and the pool's cost per task can be measured; see docs/scaling.md.
"""

import heapq
import os
import select
import socket
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import orjson

from engine.adapters.process.pool.forkserver_client import ForkServerClient
from engine.adapters.process.pool.host import ProcessHost
from engine.core.worker import frames
from engine.core.worker.frames import PACKET_BYTES_MAX

OUTCOME = b'{"run":1,"result":null}'
GRAIN_S = 0.0001  # ends that are nearer than this to each other are answered together
_ENDS = 5
_HANDLERS = [{"name": "nap", "queue": "bench", "timeout": 60}]


class SimulatedForkServer(ForkServerClient):
    boot = ("import sys; sys.path.insert(0, sys.argv[1]); from bench.simulated_workers import main; "
            "main(int(sys.argv[2]))")


class SimulatedHost(ProcessHost):
    server = SimulatedForkServer


@dataclass(slots=True)
class Worker:
    """The worker's ends of its pipes, and the task that it is in."""

    tasks: int
    replies: int
    token: int = 0
    begun_s: float = 0.0


@dataclass(slots=True)
class SimulatedWorkers:
    control: socket.socket
    idle: dict[int, Worker] = field(default_factory=dict)  # by the descriptor of its tasks
    ends: list[tuple[float, int, Worker]] = field(default_factory=list)  # a heap

    def serve(self) -> None:
        """Until the pool is gone."""
        control = self.control.fileno()
        while True:
            patience_s = max(0.0, self.ends[0][0] + GRAIN_S - time.monotonic()) if self.ends else None
            ready, _, _ = select.select([control, *self.idle], [], [], patience_s)
            for fd in ready:
                if fd != control:
                    self.take(self.idle.pop(fd), time.monotonic())
                elif not self.obey():
                    return
            self.answer()

    def obey(self) -> bool:
        packet, fds, _, _ = socket.recv_fds(self.control, PACKET_BYTES_MAX, _ENDS, socket.MSG_CMSG_CLOEXEC)
        if not packet:
            return False
        order = orjson.loads(packet)
        tasks, replies, *rest = fds
        for fd in rest:
            os.close(fd)
        os.set_blocking(tasks, False)
        pidfd = os.pidfd_open(os.getpid())
        say(self.control, {"spawned": order["spawn"], "pid": os.getpid()}, pidfd)
        os.close(pidfd)
        os.write(replies, frames.frame(frames.BOOTED, 0, b""))
        self.idle[tasks] = Worker(tasks, replies)
        return True

    def take(self, worker: Worker, now_s: float) -> None:
        """Begin the next task of a worker that is free, or wait for one."""
        try:
            packet = os.read(worker.tasks, PACKET_BYTES_MAX)
        except BlockingIOError:
            self.idle[worker.tasks] = worker
            return
        if packet[:1] != frames.TASK:
            return  # told to quit
        worker.token, worker.begun_s = frames.token_of(packet), now_s
        nap_s = orjson.loads(packet[packet.rindex(b"\n") + 1 :])["s"]
        heapq.heappush(self.ends, (now_s + nap_s, worker.token, worker))

    def answer(self) -> None:
        now_s = time.monotonic()
        while self.ends and self.ends[0][0] <= now_s:
            end_s, _, worker = heapq.heappop(self.ends)
            wall_us = int((now_s - worker.begun_s) * 1e6)
            os.write(worker.replies, frames.frame(frames.REPLIED, worker.token, OUTCOME, frames.COMPLETED, wall_us))
            self.take(worker, end_s)  # a process would have gone on then, and not when this loop comes to it


def say(control: socket.socket, message: dict[str, Any], *fds: int) -> None:
    socket.send_fds(control, [orjson.dumps(message)], list(fds))


def main(fd: int) -> None:
    """Play the fork server for the pool at the other end of `fd`."""
    control, joiner, config = socket.socket(fileno=fd), frames.Joiner(), None
    while config is None:
        packet = control.recv(PACKET_BYTES_MAX)
        if not packet:
            sys.exit(0)
        config = joiner.feed(packet)
    say(control, {"ready": {"handlers": _HANDLERS, "failures": {}}})
    SimulatedWorkers(control).serve()
