"""What a larger machine would do: a model of the cost of a task, fitted to simulated pools of several sizes.

A pool and Redis pay for each task and for each step (one script call, which carries many tasks):

    µs per task = µs of the task + µs of a step x steps per task

Points come from pools of 2 to 128 simulated workers (bench/simulated_workers.py), which differ in how many tasks a step
carries, and from several pools on one Redis and on two. docs/scaling.md reads the result.
"""

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import redis

from bench import rig
from bench.processes import cpu_s
from bench.simulated_pool import simulated_pool
from engine.client import Client

# shards, that is Redis servers; pools of each; workers of each pool
SETUPS = ((1, 1, 2), (1, 1, 8), (1, 1, 32), (1, 1, 64), (1, 1, 128), (1, 2, 32), (1, 4, 16), (2, 1, 32))
NAP = {"task_type": "nap", "payload": {"s": 0.002}}
SECONDS, PER_S_MAX = 1.5, 20_000


@dataclass(frozen=True, slots=True)
class Point:
    shards: int
    pools: int  # of each shard
    workers: int  # of each pool
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
    points = [_point(transport, *setup) for setup in SETUPS]
    supervisor = fit([one.steps_per_task for one in points], [one.supervisor_us for one in points])
    server = fit([one.steps_per_task for one in points], [one.redis_us for one in points])
    return {
        "transport": transport,
        "supervisor_us_per_task": round(supervisor.per_task, 2), "supervisor_us_per_step": round(supervisor.per_step),
        "redis_us_per_task": round(server.per_task, 2), "redis_us_per_step": round(server.per_step),
        "redis_us_per_submit": round(min(one.submit_redis_us for one in points), 2),
        "points": [_told(one) for one in points]}


def _told(point: Point) -> dict[str, float]:
    return {"shards": point.shards, "pools": point.pools, "workers": point.workers,
            "tasks_per_s": round(point.tasks_per_s), "tasks_per_step": round(1 / point.steps_per_task, 1),
            "supervisor_us": round(point.supervisor_us, 2), "redis_us": round(point.redis_us, 2)}


def fit(x: Sequence[float], y: Sequence[float]) -> Line:
    """The straight line with the least squares of relative errors, so that dear points do not count for more."""
    weights = [1 / value**2 for value in y]
    total = sum(weights)
    mean_x = sum(w * a for w, a in zip(weights, x, strict=True)) / total
    mean_y = sum(w * b for w, b in zip(weights, y, strict=True)) / total
    slope = sum(w * (a - mean_x) * (b - mean_y) for w, a, b in zip(weights, x, y, strict=True)) / sum(
        w * (a - mean_x) ** 2 for w, a in zip(weights, x, strict=True))
    return Line(mean_y - slope * mean_x, slope)


def _point(transport: str, shards: int, pools: int, workers: int) -> Point:
    """`shards` Redis servers, each with so many pools of so many workers and its share of the tasks, all at once."""
    tasks = int(min(shards * pools * workers * 450, PER_S_MAX) * SECONDS) // shards
    warm_up = pools * workers * 20
    with contextlib.ExitStack() as stack:
        urls = [stack.enter_context(rig.redis_server(transport)) for _ in range(shards)]
        running = [stack.enter_context(simulated_pool(url, workers)) for url in urls for _ in range(pools)]
        clients, servers = [Client(url) for url in urls], [redis.Redis.from_url(url) for url in urls]
        for client, server in zip(clients, servers, strict=True):
            client.submit_many([NAP] * warm_up)  # how long they take is learnt
            rig.await_completed(server, warm_up)
            client.pause(rig.QUEUE)
        before_s = _redis_s(servers)
        for client in clients:
            client.submit_many([NAP] * tasks)
        submit_s = _redis_s(servers) - before_s
        pool_s, redis_s = sum(map(cpu_s, running)), _redis_s(servers)
        steps, begin_s = sum(map(rig.script_calls, servers)), time.perf_counter()
        for client in clients:
            client.resume(rig.QUEUE)
        for server in servers:
            rig.await_completed(server, warm_up + tasks)
        wall_s, total = time.perf_counter() - begin_s, tasks * shards
        return Point(shards, pools, workers, total / wall_s, (sum(map(rig.script_calls, servers)) - steps) / total,
                     (sum(map(cpu_s, running)) - pool_s) / total * 1e6, (_redis_s(servers) - redis_s) / total * 1e6,
                     submit_s / total * 1e6)


def _redis_s(servers: list[redis.Redis]) -> float:
    return sum(map(rig.redis_cpu_s, servers))
