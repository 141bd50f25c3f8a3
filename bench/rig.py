"""A private Redis and a private engine for a benchmark, and what both have used.

Redis listens on loopback without persistence, as the peers' figures were
taken, or on a Unix socket, which is what the embedded one does.
"""

import contextlib
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import redis

from engine.adapters.redis.binary import find_server
from engine.scheduler import Scheduler

SCRIPT_COMMANDS = ("evalsha", "eval")


@contextlib.contextmanager
def redis_server(transport: str = "tcp") -> Iterator[str]:
    """Run a redis-server of our own; give its URL. `transport` is "tcp" or "unix"."""
    folder = tempfile.mkdtemp(prefix="ganger-bench-")
    options = ["--save", "", "--appendonly", "no", "--dir", folder]
    if transport == "unix":
        options += ["--port", "0", "--unixsocket", f"{folder}/redis.sock"]
        url = f"unix://{folder}/redis.sock?db=0"
    else:
        port = _free_port()
        options += ["--port", str(port), "--bind", "127.0.0.1"]
        url = f"redis://127.0.0.1:{port}/0"
    process = subprocess.Popen([find_server(Path(folder)), *options], stdout=subprocess.DEVNULL)
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
        assert scheduler.status().pid is not None
        tree = psutil.Process(scheduler.status().pid)
        named = {" ".join(process.cmdline()): process for process in tree.children(recursive=True)}
        self.pools = [process for title, process in named.items() if title.startswith("ganger: pool")]
        self.workers = [process for title, process in named.items() if title.startswith("ganger: worker")]
        assert self.pools, f"no pool among {list(named)}"

    def read(self) -> Usage:
        cpu = self.redis.info("cpu")
        stats = self.redis.info("commandstats")
        inner = sum(row["calls"] for row in stats.values())
        return Usage(
            sum(map(_cpu_s, self.pools)), sum(map(_cpu_s, self.workers)),
            cpu["used_cpu_user"] + cpu["used_cpu_sys"], inner,
            sum(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in SCRIPT_COMMANDS))


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _free_port() -> int:
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
