"""Short tasks among long ones: 5 % take 1 s, the rest 1 ms, at half of what the workers could do.

All are of one handler, so that nothing tells the long ones apart beforehand. They sleep: what is measured is where the
engine puts a task, and 32 workers make it improbable that all are in long ones (with two, that alone would decide).
Arrivals are random (exponential pauses, a fixed seed).
"""

import random
import time
from typing import Any

from bench import rig
from bench.percentiles import percentiles

WORKERS = 32
LOAD = 0.5
LONG_SHARE, LONG_S, SHORT_S = 0.05, 1.0, 0.001
LATE_MS = 20.0


def measure(tasks: int = 3_000, transport: str = "tcp") -> dict[str, Any]:
    """Percentiles of the short tasks' time from submit to start, and how many were late though a slot was free."""
    chance = random.Random(6)
    mean_s = LONG_SHARE * LONG_S + (1 - LONG_SHARE) * SHORT_S
    rate_per_s = LOAD * WORKERS / mean_s
    lengths_s = [LONG_S if chance.random() < LONG_SHARE else SHORT_S for _ in range(tasks)]
    with rig.bench(transport, max_workers=WORKERS) as bench:
        submits, ids, next_s = [], [], time.perf_counter()
        for length_s in lengths_s:
            next_s += chance.expovariate(rate_per_s)
            time.sleep(max(0.0, next_s - time.perf_counter()))
            submits.append(time.monotonic_ns())
            ids.append(bench.client.submit("nap", {"s": length_s}))
        ended = {task.id: task.result for task in bench.client.wait(ids, timeout=60)}
    starts = [ended[task_id] for task_id in ids]
    waits_ms = [(start - submit) / 1e6 for start, submit in zip(starts, submits, strict=True)]
    shorts = [n for n in range(tasks) if lengths_s[n] == SHORT_S]
    longs = [starts[n] for n in range(tasks) if lengths_s[n] == LONG_S]
    late = [n for n in shorts if waits_ms[n] > LATE_MS]
    return {"tasks": tasks, "workers": WORKERS, "transport": transport, "tasks_per_s": round(rate_per_s),
            **percentiles("short_start_ms", [waits_ms[n] for n in shorts]),
            "short_start_ms_max": round(max(waits_ms[n] for n in shorts), 1),
            "late_with_a_free_slot": sum(_was_free(longs, submits[n], starts[n]) for n in late)}


def _was_free(longs: list[int], submitted_ns: int, started_ns: int) -> bool:
    """Whether, in the middle of a wait, fewer long tasks were running than there are workers."""
    middle_ns = (submitted_ns + started_ns) // 2
    return sum(start <= middle_ns < start + LONG_S * 1e9 for start in longs) < WORKERS
