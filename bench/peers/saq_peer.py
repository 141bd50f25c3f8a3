"""SAQ: `python -m saq bench.peers.saq_peer.settings`."""

import asyncio
import time
from typing import Any

import redis
import uvloop
from saq import Queue

from bench.peers.peer import PATIENCE_S, PAYLOAD, REDIS_URL, WORKERS, AsyncPeer, python

uvloop.install()  # its workers take the loop of the policy; this one is the faster
POLL_S = 0.001  # its client asks; its default of 0.5 would be all that is measured


async def noop(context: Any, *, payload: dict[str, Any]) -> None:
    """Nothing."""


async def moment(context: Any, *, payload: dict[str, Any]) -> int:
    return time.monotonic_ns()


queue = Queue.from_url(REDIS_URL, name="bench")
settings = {"queue": queue, "functions": [noop, moment], "concurrency": 10}


class Saq(AsyncPeer):
    label = "SAQ"
    packages = ("saq", "redis", "hiredis", "uvloop")
    settings = "2 processes of 10 coroutines (no isolation)"
    tasks = 10_000
    is_isolated = False

    async def connect(self) -> None:
        await queue.connect()

    def commands(self) -> list[list[str]]:
        return [python("saq", "bench.peers.saq_peer.settings", "--workers", str(WORKERS), "--quiet")]

    async def send(self) -> Any:
        return await queue.enqueue("noop", payload=PAYLOAD)

    async def ask_moment(self) -> int:
        started_ns: int = await asyncio.wait_for(queue.apply("moment", poll_interval=POLL_S, payload={}), PATIENCE_S)
        return started_ns

    def pending(self, connection: redis.Redis, total: int) -> int:
        return int(connection.zcard("saq:bench:incomplete"))  # type: ignore[arg-type]


PEER = Saq
