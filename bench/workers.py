"""What a pool's size costs: the supervisor's CPU per task with few and with many workers, in tasks that sleep 2 ms.

They sleep so that two cores can hold as many workers as a large machine would; see docs/scaling.md.
"""

from typing import Any

from bench import rig

NAP = {"task_type": "nap", "payload": {"s": 0.002}}
FEW, MANY = 8, 64
SECONDS = 3.0
PER_S_MAX = 1 / 0.0023  # of one worker: a sleep of 2 ms takes a little longer


def measure(transport: str = "tcp", few: int = FEW, many: int = MANY) -> dict[str, Any]:
    """Figures at both sizes, each under full load for some seconds."""
    small, large = (_under_load(transport, workers) for workers in (few, many))
    return {
        "transport": transport, "few": few, "many": many,
        "few_tasks_per_s": round(small.tasks_per_s), "many_tasks_per_s": round(large.tasks_per_s),
        "few_supervisor_us_per_task": round(small.us_per_task("supervisor"), 2),
        "many_supervisor_us_per_task": round(large.us_per_task("supervisor"), 2),
        "few_redis_us_per_task": round(small.us_per_task("redis"), 2),
        "many_redis_us_per_task": round(large.us_per_task("redis"), 2),
        "many_worker_us_per_task": round(large.us_per_task("workers"), 2),
        "many_to_few": round(large.us_per_task("supervisor") / small.us_per_task("supervisor"), 3),
    }


def _under_load(transport: str, workers: int) -> rig.Drained:
    with rig.bench(transport, max_workers=workers) as bench:
        per_s = min(workers * PER_S_MAX, 20_000)
        bench.drain([NAP] * workers * 20)  # how long they take is learnt
        return bench.drain([NAP] * int(per_s * SECONDS))
