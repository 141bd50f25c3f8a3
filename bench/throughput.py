"""How many no-op tasks a second, and what each costs: results stored, two workers, 100-byte payloads.

The queue is filled while it is paused, then opened; the clock runs until the last task has completed.
"""

import statistics
from typing import Any

from bench import rig
from bench.submit import singly

ROUNDS = 3
SINGLES = 3_000


def measure(tasks: int = 40_000, transport: str = "tcp", workers: int = 2, **settings: Any) -> dict[str, Any]:
    """Medians of three rounds in one engine. `submit_per_s` is taken beside the pool that runs what comes."""
    with rig.bench(transport, max_workers=workers, **settings) as bench:
        singles, completed = min(tasks, SINGLES), bench.completed()
        submit_per_s = singly(bench.client, singles)
        bench.await_completed(completed + singles)
        before_bytes = bench.used_memory()
        fills_s = [bench.fill([rig.NOOP] * tasks)]
        queued_bytes = (bench.used_memory() - before_bytes) / tasks
        drains, submits_redis_us = [bench.open(tasks)], []
        for _ in range(ROUNDS - 1):
            before = bench.meter.read()
            fills_s.append(bench.fill([rig.NOOP] * tasks))
            drains.append(bench.open(tasks))
            submits_redis_us.append((drains[-1].before.redis_s - before.redis_s) / tasks * 1e6)

    def median(part: str) -> float:
        return statistics.median(drained.us_per_task(part) for drained in drains)

    return {
        "tasks": tasks, "rounds": ROUNDS, "workers": workers, "transport": transport,
        "tasks_per_s": round(statistics.median(drained.tasks_per_s for drained in drains)),
        "supervisor_us_per_task": round(median("supervisor"), 2),
        "worker_us_per_task": round(median("workers"), 2),
        "redis_us_per_task": round(median("redis"), 2),
        "redis_us_per_task_with_submit": round(median("redis") + statistics.median(submits_redis_us), 2),
        "redis_commands_per_task": round(drains[-1].per_task("commands"), 3),
        "redis_client_commands_per_task": round(drains[-1].per_task("client_commands"), 4),
        "submit_per_s": round(submit_per_s), "submit_many_per_s": round(tasks / statistics.median(fills_s)),
        "queued_bytes_per_task": round(queued_bytes),
    }
