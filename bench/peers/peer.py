"""What a peer says of itself, and the loops that it is measured with. Runs in the peers' environment.

A peer is used by its own API, as its documentation shows it, with the settings that were found to serve it best.
"""

import asyncio
import os
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable
from typing import Any

import redis

URL_VARIABLE, PHASE_VARIABLE = "PEER_REDIS_URL", "PEER_PHASE"
REDIS_URL = os.environ.get(URL_VARIABLE, "redis://127.0.0.1:1/0")  # of nobody, when only the versions are asked for
PHASE = os.environ.get(PHASE_VARIABLE, "throughput")
PAYLOAD = {"data": "x" * 89}  # 100 bytes as JSON
WORKERS = 2
PAUSE_S = 0.005
PATIENCE_S = 30

Latency = tuple[float, float]  # ms from submit to start, and to the result


class Peer(ABC):
    """What the driver measures; for a peer with a synchronous client the loops are in SyncPeer."""

    label: str
    packages: tuple[str, ...]  # whose versions are told
    settings: str  # in words
    tasks: int  # for the throughput: what takes it some seconds
    is_isolated = True  # each task by itself in a process

    @abstractmethod
    def commands(self) -> list[list[str]]:
        """What is to be started so that two workers run."""

    @abstractmethod
    def submit(self, count: int) -> float:
        """Submit so many one by one; return the seconds."""

    @abstractmethod
    def fill(self, count: int) -> float:
        """Submit so many in the fastest way there is; return the seconds."""

    @abstractmethod
    def latencies(self, count: int) -> list[Latency]:
        """One task after the other, each after a pause."""

    @abstractmethod
    def pending(self, connection: redis.Redis, total: int) -> int:
        """How many of `total` tasks have not completed; a handful more or less does no harm."""

    def environment(self) -> dict[str, str]:
        return {}

    def versions(self) -> dict[str, str]:
        from importlib.metadata import version

        return {package: version(package) for package in self.packages}


class SyncPeer(Peer):
    @abstractmethod
    def send(self) -> Any:
        """Submit the no-op."""

    @abstractmethod
    def send_moment(self) -> Any:
        """Submit the handler that returns time.monotonic_ns()."""

    @abstractmethod
    def result(self, handle: Any) -> int:
        """Wait for its result."""

    def submit(self, count: int) -> float:
        begin_s = time.perf_counter()
        for _ in range(count):
            self.send()
        return time.perf_counter() - begin_s

    def fill(self, count: int) -> float:
        return self.submit(count)

    def latencies(self, count: int) -> list[Latency]:
        found = []
        for _ in range(count):
            time.sleep(PAUSE_S)
            begin_ns = time.monotonic_ns()
            started_ns = self.result(self.send_moment())
            found.append(((started_ns - begin_ns) / 1e6, (time.monotonic_ns() - begin_ns) / 1e6))
        return found


class AsyncPeer(Peer):
    """One event loop for everything, uvloop's, as the documentations advise."""

    def __init__(self) -> None:
        import uvloop

        self._runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self._runner.run(self.connect())

    async def connect(self) -> None:
        """Open what is needed."""

    @abstractmethod
    def send(self) -> Awaitable[Any]: ...

    @abstractmethod
    def ask_moment(self) -> Awaitable[int]:
        """Submit the handler that returns time.monotonic_ns(), and wait for it."""

    async def send_all(self, count: int) -> None:
        """As many at once as the client has connections for."""
        for start in range(0, count, 100):
            await asyncio.gather(*(self.send() for _ in range(min(100, count - start))))

    def submit(self, count: int) -> float:
        async def one_by_one() -> None:
            for _ in range(count):
                await self.send()

        return self._timed(one_by_one())

    def fill(self, count: int) -> float:
        return self._timed(self.send_all(count))

    def latencies(self, count: int) -> list[Latency]:
        async def measure() -> list[Latency]:
            found = []
            for _ in range(count):
                await asyncio.sleep(PAUSE_S)
                begin_ns = time.monotonic_ns()
                started_ns = await self.ask_moment()
                found.append(((started_ns - begin_ns) / 1e6, (time.monotonic_ns() - begin_ns) / 1e6))
            return found

        return self._runner.run(measure())

    def _timed(self, work: Any) -> float:
        begin_s = time.perf_counter()
        self._runner.run(work)
        return time.perf_counter() - begin_s


def python(*arguments: str) -> list[str]:
    """A program of the peers' environment."""
    return [sys.executable, "-m", *arguments]


def database_size(connection: redis.Redis) -> int:
    return int(connection.dbsize())  # type: ignore[arg-type]
