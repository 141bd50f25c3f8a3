"""How many no-op tasks a second, and what each costs: results stored, two workers, 100-byte payloads.

The queue is filled while it is paused, then opened; the clock runs until the last task has completed.
"""

import time
from typing import Any

import redis

from bench import rig
from engine.core.identity import created_ms

PAYLOAD = {"data": "x" * 89}  # 100 bytes as JSON
POLL_S = 0.01


def measure(tasks: int = 40_000, transport: str = "tcp", workers: int = 2, **settings: Any) -> dict[str, Any]:
    """Run it once; return the figures by name."""
    with rig.redis_server(transport) as url, rig.engine(url, max_workers=workers, **settings) as scheduler:
        connection = redis.Redis.from_url(url)
        client, meter = scheduler.client, rig.Meter(scheduler, connection)
        _drain(client, connection, [client.submit("noop", PAYLOAD) for _ in range(500)])  # warm up
        singles = _submit_singly(client, min(tasks, 3000))
        _await_completed(connection, 500 + singles[0])
        client.pause("bench")
        before_memory, before_bulk = connection.info("memory")["used_memory"], time.perf_counter()
        ids = client.submit_many([{"task_type": "noop", "payload": PAYLOAD}] * tasks)
        bulk_s = time.perf_counter() - before_bulk
        queued_bytes = (connection.info("memory")["used_memory"] - before_memory) / tasks
        before = meter.read()
        begin_s = time.perf_counter()
        client.resume("bench")
        _await_completed(connection, 500 + singles[0] + tasks)
        wall_s = time.perf_counter() - begin_s
        after = meter.read()
        assert created_ms(ids[0]) <= created_ms(ids[-1])
    used = after.supervisor_s - before.supervisor_s
    return {
        "tasks": tasks, "workers": workers, "transport": transport,
        "tasks_per_s": round(tasks / wall_s), "supervisor_us_per_task": round(used / tasks * 1e6, 2),
        "worker_us_per_task": round((after.workers_s - before.workers_s) / tasks * 1e6, 2),
        "redis_us_per_task": round((after.redis_s - before.redis_s) / tasks * 1e6, 2),
        "redis_commands_per_task": round((after.commands - before.commands) / tasks, 3),
        "redis_client_commands_per_task": round((after.client_commands - before.client_commands) / tasks, 4),
        "submit_per_s": round(singles[0] / singles[1]), "submit_many_per_s": round(tasks / bulk_s),
        "queued_bytes_per_task": round(queued_bytes),
    }


def _submit_singly(client: Any, count: int) -> tuple[int, float]:
    begin_s = time.perf_counter()
    for _ in range(count):
        client.submit("noop", PAYLOAD)
    return count, time.perf_counter() - begin_s


def _drain(client: Any, connection: redis.Redis, ids: list[str]) -> None:
    client.wait(ids, timeout=60)


def _await_completed(connection: redis.Redis, count: int) -> None:
    """Redis counts what has completed; asking it for one number costs the run next to nothing."""
    while int(connection.hget("ganger:{0}:counters", "COMPLETED") or 0) < count:
        time.sleep(POLL_S)
