"""What a pool's size costs: the supervisor's CPU per task with few and with many workers, in tasks that sleep 2 ms.

`real` workers are processes: on two cores their own switching bounds the rate. `simulated` ones answer from one process
(bench/simulated_workers.py) over the same pipes, so that pool and Redis can be seen at the rate of a large machine.
"""

import time
from typing import Any

import redis

from bench import rig
from bench.processes import cpu_s
from bench.simulated_pool import simulated_pool
from engine.client import Client

NAP_S = 0.002
NAP = {"task_type": "nap", "payload": {"s": NAP_S}}
FEW, MANY = 8, 64
SECONDS = 2.0
REAL_PER_S_MAX = 15_000  # what two cores bear of processes that sleep


def measure(transport: str = "tcp", few: int = FEW, many: int = MANY) -> dict[str, Any]:
    """Figures at both sizes, each under full load for some seconds."""
    small, large = simulated(transport, few), simulated(transport, many)
    real_small, real_large = (_real(transport, workers) for workers in (few, many))
    return {
        "transport": transport, "few": few, "many": many,
        "simulated_few_tasks_per_s": round(small["tasks_per_s"]), "simulated_tasks_per_s": round(large["tasks_per_s"]),
        "simulated_few_supervisor_us": round(small["supervisor_us"], 2),
        "simulated_many_supervisor_us": round(large["supervisor_us"], 2),
        "simulated_many_redis_us": round(large["redis_us"], 2),
        "simulated_many_to_few": round(large["supervisor_us"] / small["supervisor_us"], 3),
        "real_few_tasks_per_s": round(real_small.tasks_per_s), "real_tasks_per_s": round(real_large.tasks_per_s),
        "real_few_supervisor_us": round(real_small.us_per_task("supervisor"), 2),
        "real_many_supervisor_us": round(real_large.us_per_task("supervisor"), 2),
        "real_many_to_few": round(real_large.us_per_task("supervisor") / real_small.us_per_task("supervisor"), 3),
    }


def simulated(transport: str, workers: int, nap_s: float = NAP_S, seconds: float = SECONDS) -> dict[str, float]:
    """A pool of so many simulated workers under full load: tasks a second; CPU of pool and Redis per task, µs."""
    nap = {"task_type": "nap", "payload": {"s": nap_s}}
    tasks = max(1_000, int(min(workers / nap_s, 40_000) * seconds))
    with rig.redis_server(transport) as url, simulated_pool(url, workers) as pool:
        client, connection = Client(url), redis.Redis.from_url(url)
        client.submit_many([nap] * min(tasks, workers * 20))
        rig.await_completed(connection, min(tasks, workers * 20))
        client.pause(rig.QUEUE)
        client.submit_many([nap] * tasks)
        goal = rig.completed(connection) + tasks
        pool_s, redis_s, begin_s = cpu_s(pool), rig.redis_cpu_s(connection), time.perf_counter()
        client.resume(rig.QUEUE)
        rig.await_completed(connection, goal)
        wall_s = time.perf_counter() - begin_s
        return {"tasks_per_s": tasks / wall_s, "supervisor_us": (cpu_s(pool) - pool_s) / tasks * 1e6,
                "redis_us": (rig.redis_cpu_s(connection) - redis_s) / tasks * 1e6}


def _real(transport: str, workers: int) -> rig.Drained:
    with rig.bench(transport, max_workers=workers) as bench:
        bench.drain([NAP] * workers * 20)  # how long they take is learnt
        return bench.drain([NAP] * int(min(workers / NAP_S, REAL_PER_S_MAX) * SECONDS))
