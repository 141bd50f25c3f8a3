"""What a larger machine would do: a model of the cost of a task, fitted to simulated pools of several sizes.

A pool and Redis pay for each task and for each step (one script call, which carries many tasks):

    µs per task = µs of the task + µs of a step x steps per task

Points come from pools of 2 to 128 simulated workers (bench/crew.py), which differ in how many tasks a step carries, and
from several pools on one Redis. docs/scaling.md reads the result.
"""

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import redis

from bench import rig
from bench.crew_pool import crew_pool
from bench.processes import cpu_s
from engine.client import Client

SETUPS = ((1, 2), (1, 8), (1, 32), (1, 64), (1, 128), (2, 32), (4, 16))  # pools, workers of each
NAP = {"task_type": "nap", "payload": {"s": 0.002}}
SECONDS, PER_S_MAX = 1.5, 20_000


@dataclass(frozen=True, slots=True)
class Point:
    pools: int
    workers: int  # of all
    tasks_per_s: float
    steps_per_task: float
    supervisor_us: float  # CPU per task, as all that follows
    redis_us: float
    submit_redis_us: float


@dataclass(frozen=True, slots=True)
class Line:
    """`per_task + per_step * steps_per_task`, both in µs."""

    per_task: float
    per_step: float


def measure(transport: str = "tcp") -> dict[str, Any]:
    """The points, and the lines through them."""
    points = [_point(transport, pools, workers) for pools, workers in SETUPS]
    supervisor = fit([one.steps_per_task for one in points], [one.supervisor_us for one in points])
    server = fit([one.steps_per_task for one in points], [one.redis_us for one in points])
    return {
        "transport": transport,
        "supervisor_us_per_task": round(supervisor.per_task, 2), "supervisor_us_per_step": round(supervisor.per_step),
        "redis_us_per_task": round(server.per_task, 2), "redis_us_per_step": round(server.per_step),
        "redis_us_per_submit": round(min(one.submit_redis_us for one in points), 2),
        "points": [{"pools": one.pools, "workers": one.workers, "tasks_per_s": round(one.tasks_per_s),
                    "tasks_per_step": round(1 / one.steps_per_task, 1), "supervisor_us": round(one.supervisor_us, 2),
                    "redis_us": round(one.redis_us, 2)} for one in points]}


def fit(x: Sequence[float], y: Sequence[float]) -> Line:
    """The straight line with the least squares of relative errors, so that dear points do not count for more."""
    weights = [1 / value**2 for value in y]
    total = sum(weights)
    mean_x = sum(w * a for w, a in zip(weights, x, strict=True)) / total
    mean_y = sum(w * b for w, b in zip(weights, y, strict=True)) / total
    slope = sum(w * (a - mean_x) * (b - mean_y) for w, a, b in zip(weights, x, y, strict=True)) / sum(
        w * (a - mean_x) ** 2 for w, a in zip(weights, x, strict=True))
    return Line(mean_y - slope * mean_x, slope)


def _point(transport: str, pools: int, workers: int) -> Point:
    tasks = int(min(pools * workers * 450, PER_S_MAX) * SECONDS)
    with rig.redis_server(transport) as url, contextlib.ExitStack() as stack:
        running = [stack.enter_context(crew_pool(url, workers)) for _ in range(pools)]
        client, connection = Client(url), redis.Redis.from_url(url)
        warm_up = pools * workers * 20
        client.submit_many([NAP] * warm_up)  # how long they take is learnt
        rig.await_completed(connection, warm_up)
        client.pause(rig.QUEUE)
        before_s = rig.redis_cpu_s(connection)
        client.submit_many([NAP] * tasks)
        submit_s = rig.redis_cpu_s(connection) - before_s
        pool_s, redis_s = sum(map(cpu_s, running)), rig.redis_cpu_s(connection)
        steps, begin_s = rig.script_calls(connection), time.perf_counter()
        client.resume(rig.QUEUE)
        rig.await_completed(connection, warm_up + tasks)
        wall_s = time.perf_counter() - begin_s
        return Point(pools, pools * workers, tasks / wall_s, (rig.script_calls(connection) - steps) / tasks,
                     (sum(map(cpu_s, running)) - pool_s) / tasks * 1e6,
                     (rig.redis_cpu_s(connection) - redis_s) / tasks * 1e6, submit_s / tasks * 1e6)
