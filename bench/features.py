"""What options cost: plain tasks against tasks with fair keys, limits, tags and an expiry. The history is always on."""

import statistics
from collections.abc import Mapping
from typing import Any

from bench import rig

KEYS = 16  # tenants that take turns
ROUNDS = 3
LIMIT = {"max_memory": "1GB"}
OPTIONS = {**LIMIT, "timeout": 30, "max_retries": 2, "max_deliveries": 5, "tags": ["bench", "nightly"],
           "result_ttl": 3600}


def measure(tasks: int = 20_000, transport: str = "tcp") -> dict[str, Any]:
    """Medians of three rounds in turn, in one engine."""
    full: list[Mapping[str, Any]] = [{**rig.NOOP, **OPTIONS, "fair_key": f"tenant-{n % KEYS}"} for n in range(tasks)]
    fair: list[Mapping[str, Any]] = [{**rig.NOOP, "fair_key": f"tenant-{n % KEYS}"} for n in range(tasks)]
    limited: list[Mapping[str, Any]] = [{**rig.NOOP, **LIMIT}] * tasks
    sorts = {"plain": [rig.NOOP] * tasks, "fair": fair, "full": full, "limited": limited}
    rates: dict[str, list[float]] = {sort: [] for sort in sorts}
    with rig.bench(transport) as bench:
        for _ in range(ROUNDS):
            for sort, work in sorts.items():
                rates[sort].append(bench.drain(work).tasks_per_s)
    medians = {sort: statistics.median(values) for sort, values in rates.items()}
    return {"tasks": tasks, "transport": transport,
            **{f"{sort}_tasks_per_s": round(value) for sort, value in medians.items()},
            "fair_to_plain": round(medians["fair"] / medians["plain"], 3),
            "full_to_plain": round(medians["full"] / medians["plain"], 3),
            "limited_to_plain": round(medians["limited"] / medians["plain"], 3)}
