"""How fast one client process submits: one task after the other, and many at once. No pool runs, as for the peers."""

import statistics
import time
from typing import Any

import redis

from bench import rig
from engine.client import Client

ROUNDS = 3


def measure(tasks: int = 100_000, transport: str = "tcp") -> dict[str, Any]:
    """Medians of three rounds; with what Redis spends on a task that comes in bulk."""
    with rig.redis_server(transport) as url:
        with rig.engine(url):
            pass  # it has announced its handlers; a submit is completed from that, as ever
        client, connection = Client(url), redis.Redis.from_url(url)
        singly(client, 200)
        one_by_one = statistics.median(singly(client, min(tasks, 5_000)) for _ in range(ROUNDS))
        before_s = rig.redis_cpu_s(connection)
        in_bulk = statistics.median(_in_bulk(client, tasks // ROUNDS) for _ in range(ROUNDS))
        redis_s = rig.redis_cpu_s(connection) - before_s
    return {"tasks": tasks, "transport": transport, "submit_per_s": round(one_by_one),
            "submit_many_per_s": round(in_bulk),
            "redis_us_per_submit": round(redis_s / (tasks // ROUNDS * ROUNDS) * 1e6, 2)}


def singly(client: Client, count: int) -> float:
    """Submits a second, one by one."""
    begin_s = time.perf_counter()
    for _ in range(count):
        client.submit("noop", rig.PAYLOAD)
    return count / (time.perf_counter() - begin_s)


def _in_bulk(client: Client, count: int) -> float:
    tasks = [rig.NOOP] * count
    begin_s = time.perf_counter()
    client.submit_many(tasks)
    return count / (time.perf_counter() - begin_s)
