"""huey with worker processes: `python -m huey.bin.huey_consumer bench.peers.huey_peer.queue`."""

import time
from typing import Any

import redis
from huey import RedisHuey

from bench.peers.peer import PATIENCE_S, PAYLOAD, PHASE, REDIS_URL, WORKERS, SyncPeer, python

queue = RedisHuey("bench", url=REDIS_URL, store_none=True, blocking=True, notify_result=PHASE == "latency")


@queue.task()
def noop(payload: dict[str, Any]) -> None:
    """Nothing."""


@queue.task()
def moment(payload: dict[str, Any]) -> int:
    return time.monotonic_ns()


class Huey(SyncPeer):
    label = "huey"
    packages = ("huey", "redis", "hiredis")
    settings = "2 processes, no periodic tasks, results stored; told of results (notify_result) for the latency only"
    tasks = 12_000

    def commands(self) -> list[list[str]]:
        return [python("huey.bin.huey_consumer", "bench.peers.huey_peer.queue", "-w", str(WORKERS), "-k", "process",
                       "--no-periodic", "--quiet")]

    def send(self) -> Any:
        return noop(PAYLOAD)

    def send_moment(self) -> Any:
        return moment({})

    def result(self, handle: Any) -> int:
        started_ns: int = handle.get(blocking=True, timeout=PATIENCE_S)
        return started_ns

    def pending(self, connection: redis.Redis, total: int) -> int:
        return total - int(connection.hlen("huey.results.bench"))  # type: ignore[arg-type]


PEER = Huey
