"""TaskIQ on a Redis stream: `python -m taskiq worker bench.peers.taskiq_peer:broker`."""

import time
from typing import Any

import redis
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

from bench.peers.peer import PATIENCE_S, PAYLOAD, REDIS_URL, WORKERS, AsyncPeer, database_size, python

# Its default of 5 s for a socket is shorter than its own blocking read can be, and ends the worker.
broker = RedisStreamBroker(REDIS_URL, socket_timeout=60, consumer_id="0").with_result_backend(
    RedisAsyncResultBackend(REDIS_URL, result_ex_time=3600, socket_timeout=60))


@broker.task(task_name="noop")
async def noop(payload: dict[str, Any]) -> None:
    """Nothing."""


@broker.task(task_name="moment")
async def moment(payload: dict[str, Any]) -> int:
    return time.monotonic_ns()


class Taskiq(AsyncPeer):
    label = "TaskIQ"
    packages = ("taskiq", "taskiq-redis", "redis", "hiredis", "uvloop")
    settings = "stream broker, 2 processes of 100 coroutines (no isolation), acknowledged when saved"
    tasks = 10_000
    is_isolated = False

    async def connect(self) -> None:
        await broker.startup()

    def commands(self) -> list[list[str]]:
        return [python("taskiq", "worker", "bench.peers.taskiq_peer:broker", "--workers", str(WORKERS), "--no-parse",
                       "--log-level", "ERROR")]

    async def send(self) -> Any:
        return await noop.kiq(PAYLOAD)

    async def ask_moment(self) -> int:
        task = await moment.kiq({})
        result = await task.wait_result(check_interval=0.0005, timeout=PATIENCE_S)
        started_ns: int = result.return_value
        return started_ns

    def pending(self, connection: redis.Redis, total: int) -> int:
        return total - database_size(connection)  # a key for each result, beside the stream


PEER = Taskiq
