"""Celery, with prefork: `python -m celery -A bench.peers.celery_peer worker`."""

import time
from typing import Any

import celery
import redis

from bench.peers.peer import PATIENCE_S, PAYLOAD, REDIS_URL, WORKERS, SyncPeer, database_size, python

app = celery.Celery("bench", broker=REDIS_URL, backend=REDIS_URL)
app.conf.update(
    worker_prefetch_multiplier=128, worker_send_task_events=False, worker_enable_remote_control=False,
    task_send_sent_event=False, task_compression=None, broker_pool_limit=10, result_expires=3600)


@app.task(name="noop")
def noop(payload: dict[str, Any]) -> None:
    """Nothing."""


@app.task(name="moment")
def moment(payload: dict[str, Any]) -> int:
    return time.monotonic_ns()


class Celery(SyncPeer):
    label = "Celery"
    packages = ("celery", "kombu", "redis", "hiredis")
    settings = "prefork, prefetch 128, early acknowledgement, no events, gossip, mingle or heartbeat"
    tasks = 4_000

    def commands(self) -> list[list[str]]:
        return [python("celery", "-A", "bench.peers.celery_peer", "worker", "--pool", "prefork", "-c", str(WORKERS),
                       "--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "ERROR")]

    def send(self) -> Any:
        return noop.delay(PAYLOAD)

    def send_moment(self) -> Any:
        return moment.delay({})

    def result(self, handle: Any) -> int:
        started_ns: int = handle.get(timeout=PATIENCE_S)
        return started_ns

    def fill(self, count: int) -> float:
        begin_s = time.perf_counter()
        with app.producer_pool.acquire(block=True) as producer:
            for _ in range(count):
                noop.apply_async((PAYLOAD,), producer=producer)
        return time.perf_counter() - begin_s

    def pending(self, connection: redis.Redis, total: int) -> int:
        return total - database_size(connection)  # a key for each result, beside a few of the queue


PEER = Celery
