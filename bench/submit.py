"""How fast one client process submits: one task after the other, and many at once. No pool runs, as for the peers.

One after the other is bounded by the machine's round trips, which differ by half between machines of the same kind: so
`round_trips_per_s` is taken in turn with it, PINGs of redis-py's client, which do nothing else.
"""

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
        count = min(tasks, 5_000)
        rounds = [(singly(client, count), _round_trips(connection, count)) for _ in range(ROUNDS)]
        one_by_one, round_trips = map(statistics.median, zip(*rounds, strict=True))
        before_s = rig.redis_cpu_s(connection)
        in_bulk = statistics.median(_in_bulk(client, tasks // ROUNDS) for _ in range(ROUNDS))
        redis_s = rig.redis_cpu_s(connection) - before_s
    return {"tasks": tasks, "transport": transport, "submit_per_s": round(one_by_one),
            "round_trips_per_s": round(round_trips), "submit_to_round_trips": round(one_by_one / round_trips, 2),
            "submit_many_per_s": round(in_bulk),
            "redis_us_per_submit": round(redis_s / (tasks // ROUNDS * ROUNDS) * 1e6, 2)}


def singly(client: Client, count: int) -> float:
    """Submits a second, one by one."""
    begin_s = time.perf_counter()
    for _ in range(count):
        client.submit("noop", rig.PAYLOAD)
    return count / (time.perf_counter() - begin_s)


def _round_trips(connection: redis.Redis, count: int) -> float:
    begin_s = time.perf_counter()
    for _ in range(count):
        connection.ping()
    return count / (time.perf_counter() - begin_s)


def _in_bulk(client: Client, count: int) -> float:
    tasks = [rig.NOOP] * count
    begin_s = time.perf_counter()
    client.submit_many(tasks)
    return count / (time.perf_counter() - begin_s)
