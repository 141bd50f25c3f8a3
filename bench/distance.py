"""What a Redis 2 ms away leaves of the throughput: the engine reaches it through a proxy that delays (see delay.py).

The same tasks are run directly and through the proxy, in turn; the client stays near in both.
"""

import statistics
import time
from typing import Any
from urllib.parse import urlsplit

import redis

from bench import rig
from bench.delay import delayed

ROUND_TRIP_S = 0.002
ROUNDS = 3


def measure(tasks: int = 30_000) -> dict[str, Any]:
    """Medians of three rounds."""
    near, far, trips = [], [], []
    for _ in range(ROUNDS):
        with rig.bench() as bench:
            near.append(bench.drain([rig.NOOP] * tasks).tasks_per_s)
        with rig.redis_server() as url:
            port = urlsplit(url).port
            assert port is not None
            with delayed("127.0.0.1", port, ROUND_TRIP_S / 2) as far_port:
                far_url = f"redis://127.0.0.1:{far_port}/0"
                with rig.engine(far_url) as scheduler:
                    trips.append(_round_trip_ms(far_url))
                    far.append(rig.Bench(url, scheduler).drain([rig.NOOP] * tasks).tasks_per_s)
    near_per_s, far_per_s = statistics.median(near), statistics.median(far)
    return {"tasks": tasks, "round_trip_ms": round(statistics.median(trips), 2), "near_tasks_per_s": round(near_per_s),
            "far_tasks_per_s": round(far_per_s), "far_to_near": round(far_per_s / near_per_s, 3)}


def _round_trip_ms(url: str) -> float:
    connection, times = redis.Redis.from_url(url), []
    for _ in range(50):
        begin_s = time.perf_counter()
        connection.ping()
        times.append((time.perf_counter() - begin_s) * 1e3)
    return statistics.median(times)
