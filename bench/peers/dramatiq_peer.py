"""Dramatiq with its results middleware: `python -m dramatiq bench.peers.dramatiq_peer`."""

import time
from typing import Any

import dramatiq
import redis
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from bench.peers.peer import PATIENCE_S, PAYLOAD, REDIS_URL, WORKERS, SyncPeer, python

broker = RedisBroker(url=REDIS_URL)
broker.add_middleware(Results(backend=RedisBackend(url=REDIS_URL)))
dramatiq.set_broker(broker)


@dramatiq.actor(store_results=True)
def noop(payload: dict[str, Any]) -> None:
    """Nothing."""


@dramatiq.actor(store_results=True)
def moment(payload: dict[str, Any]) -> int:
    return time.monotonic_ns()


class Dramatiq(SyncPeer):
    label = "Dramatiq"
    packages = ("dramatiq", "redis", "hiredis")
    settings = "2 processes of 1 thread, prefetch 128, results stored"
    tasks = 12_000

    def commands(self) -> list[list[str]]:
        return [python("dramatiq", "--processes", str(WORKERS), "--threads", "1", "--skip-logging",
                       "bench.peers.dramatiq_peer")]

    def environment(self) -> dict[str, str]:
        return {"dramatiq_queue_prefetch": "128"}

    def send(self) -> Any:
        return noop.send(PAYLOAD)

    def send_moment(self) -> Any:
        return moment.send({})

    def result(self, handle: Any) -> int:
        started_ns: int = handle.get_result(block=True, timeout=PATIENCE_S * 1000)
        return started_ns

    def pending(self, connection: redis.Redis, total: int) -> int:
        return int(connection.hlen("dramatiq:default.msgs"))  # type: ignore[arg-type]


PEER = Dramatiq
