"""A private Redis and a private engine for a benchmark, and what both have used.

Redis listens on loopback without persistence, as the peers' figures were
taken, or on a Unix socket, which is what the embedded one does.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from bench.processes import Tree, cpu_s
from engine.adapters.redis.embedded.binary import find_server
from engine.client import Client
from engine.scheduler import Scheduler

SCRIPT_COMMANDS = ("evalsha", "eval")
QUEUE = "bench"
PAYLOAD = {"data": "x" * 89}  # 100 bytes as JSON
NOOP: Mapping[str, Any] = {"task_type": "noop", "payload": PAYLOAD}
WARM_UP = 500
STALLED_S = 30.0  # without a task that completes
_POLL_S = 0.005


def server_program() -> str:
    """The program that an engine would start; GANGER_REDIS_BINARY names another."""
    return find_server(Path(), os.environ.get("GANGER_REDIS_BINARY"))


@contextlib.contextmanager
def redis_server(transport: str = "tcp") -> Iterator[str]:
    """Run a redis-server of our own; give its URL. `transport` is "tcp" or "unix"."""
    folder = tempfile.mkdtemp(prefix="ganger-bench-")
    options = ["--save", "", "--appendonly", "no", "--dir", folder]
    if transport == "unix":
        options += ["--port", "0", "--unixsocket", f"{folder}/redis.sock"]
        url = f"unix://{folder}/redis.sock?db=0"
    else:
        port = free_port()
        options += ["--port", str(port), "--bind", "127.0.0.1"]
        url = f"redis://127.0.0.1:{port}/0"
    process = subprocess.Popen([server_program(), *options], stdout=subprocess.DEVNULL)
    try:
        _await_redis(url)
        yield url
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(folder)


@contextlib.contextmanager
def engine(url: str, **settings: Any) -> Iterator[Scheduler]:
    """Run an engine on that Redis, with the benchmarks' handlers and two workers unless told otherwise."""
    scheduler = Scheduler(redis_url=url, **{"max_workers": 2, "handlers": ["bench.handlers"], **settings})
    try:
        scheduler.start()
        yield scheduler
    finally:
        scheduler.stop(grace_s=0)
        scheduler.close()


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU seconds and Redis commands up to one moment."""

    supervisor_s: float
    workers_s: float
    redis_s: float
    commands: int  # all that Redis has carried out, those inside scripts included
    client_commands: int  # calls of scripts and other commands that came over the network


class Meter:
    """Reads what the pool, its workers and Redis have used."""

    def __init__(self, scheduler: Scheduler, connection: redis.Redis) -> None:
        self.redis = connection
        self.tree = Tree.of(scheduler)
        assert self.tree.pools, f"no pool among {self.tree.titles}"

    def read(self) -> Usage:
        inner = sum(row["calls"] for row in self.redis.info("commandstats").values())
        return Usage(sum(map(cpu_s, self.tree.pools)), sum(map(cpu_s, self.tree.workers)), redis_cpu_s(self.redis),
                     inner, script_calls(self.redis))


@dataclass(frozen=True, slots=True)
class Drained:
    """What a number of tasks took, from the opening of their queue to the last one's completion."""

    tasks: int
    wall_s: float
    before: Usage
    after: Usage

    @property
    def tasks_per_s(self) -> float:
        return self.tasks / self.wall_s

    def us_per_task(self, part: str) -> float:
        """CPU of "supervisor", "workers" or "redis"."""
        return float(getattr(self.after, f"{part}_s") - getattr(self.before, f"{part}_s")) / self.tasks * 1e6

    def per_task(self, count: str) -> float:
        """How many "commands" or "client_commands"."""
        return float(getattr(self.after, count) - getattr(self.before, count)) / self.tasks


class Bench:
    """One engine on one Redis, and how to have it do work.

    `connection` and `client` go to Redis directly, whatever way the engine takes.
    """

    def __init__(self, url: str, scheduler: Scheduler) -> None:
        self.url, self.scheduler = url, scheduler
        self.connection = redis.Redis.from_url(url)
        self.client = Client(url)
        self.client.wait(self.client.submit_many([NOOP] * WARM_UP), timeout=60)
        self.meter = Meter(scheduler, self.connection)

    def completed(self) -> int:
        return completed(self.connection)

    def await_completed(self, count: int) -> None:
        await_completed(self.connection, count)

    def fill(self, tasks: Sequence[Mapping[str, Any]]) -> float:
        """Submit with the queue paused; return the seconds that it took."""
        self.client.pause(QUEUE)
        begin_s = time.perf_counter()
        self.client.submit_many(tasks)
        return time.perf_counter() - begin_s

    def open(self, tasks: int) -> Drained:
        """Open the queue, wait until so many more have completed."""
        goal, before, begin_s = self.completed() + tasks, self.meter.read(), time.perf_counter()
        self.client.resume(QUEUE)
        self.await_completed(goal)
        wall_s = time.perf_counter() - begin_s
        return Drained(tasks, wall_s, before, self.meter.read())

    def drain(self, tasks: Sequence[Mapping[str, Any]]) -> Drained:
        self.fill(tasks)
        return self.open(len(tasks))

    def used_memory(self) -> int:
        return int(self.connection.info("memory")["used_memory"])


@contextlib.contextmanager
def bench(transport: str = "tcp", **settings: Any) -> Iterator[Bench]:
    """A Redis and an engine on it, warmed up."""
    with redis_server(transport) as url, engine(url, **settings) as scheduler:
        yield Bench(url, scheduler)


def completed(connection: redis.Redis) -> int:
    """Redis counts what has completed; asking it for one number costs a run next to nothing."""
    return int(connection.hget("ganger:{0}:counters", "COMPLETED") or 0)


def await_completed(connection: redis.Redis, count: int) -> None:
    """Wait until so many have completed since the engine was started. Raises TimeoutError if nothing goes on."""
    seen, moved_s = -1, time.monotonic()
    while (now := completed(connection)) < count:
        if now != seen:
            seen, moved_s = now, time.monotonic()
        elif time.monotonic() - moved_s > STALLED_S:
            raise TimeoutError(f"{now} of {count} tasks completed, then none for {STALLED_S:g} s")
        time.sleep(_POLL_S)


def redis_cpu_s(connection: redis.Redis) -> float:
    cpu = connection.info("cpu")
    return float(cpu["used_cpu_user"] + cpu["used_cpu_sys"])


def script_calls(connection: redis.Redis) -> int:
    stats = connection.info("commandstats")
    return sum(int(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"]) for name in SCRIPT_COMMANDS)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await_redis(url: str) -> None:
    end_s = time.monotonic() + 10
    while True:
        try:
            redis.Redis.from_url(url).ping()
        except redis.RedisError:
            if time.monotonic() > end_s:
                raise
            time.sleep(0.01)
        else:
            return
