"""RQ, which forks for each job: `python -m rq.cli worker-pool`."""

import time
from typing import Any

import redis
from rq import Queue

from bench.peers.peer import PATIENCE_S, PAYLOAD, REDIS_URL, WORKERS, SyncPeer, python

BATCH = 500


def noop(payload: dict[str, Any]) -> None:
    """Nothing."""


def moment(payload: dict[str, Any]) -> int:
    return time.monotonic_ns()


class Rq(SyncPeer):
    label = "RQ"
    packages = ("rq", "redis", "hiredis")
    settings = "worker pool of 2, a fork for each job (its way to isolate)"
    tasks = 500

    def __init__(self) -> None:
        self.queue = Queue(connection=redis.Redis.from_url(REDIS_URL))

    def commands(self) -> list[list[str]]:
        return [python("rq.cli", "worker-pool", "--url", REDIS_URL, "-n", str(WORKERS), "-q")]

    def send(self) -> Any:
        return self.queue.enqueue("bench.peers.rq_peer.noop", PAYLOAD)

    def send_moment(self) -> Any:
        return self.queue.enqueue("bench.peers.rq_peer.moment", {})

    def result(self, handle: Any) -> int:
        found = handle.latest_result(timeout=PATIENCE_S)
        started_ns: int = found.return_value
        return started_ns

    def fill(self, count: int) -> float:
        begin_s = time.perf_counter()
        for start in range(0, count, BATCH):
            self.queue.enqueue_many([Queue.prepare_data("bench.peers.rq_peer.noop", (PAYLOAD,))
                                     for _ in range(min(BATCH, count - start))])
        return time.perf_counter() - begin_s

    def pending(self, connection: redis.Redis, total: int) -> int:
        return total - int(connection.zcard("rq:finished:default"))  # type: ignore[arg-type]


PEER = Rq
