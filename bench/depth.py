"""Whether a million queued tasks slow down what a thousand do not.

Two engines, each on a Redis of its own, measured in turn. In both the queue is kept at its depth by the same feeder,
which submits a thousand as a thousand complete; so both carry the same load beside the work.

A million records fill a hash table of 2^20 places. The next ones have Redis move them to one of twice the size, a place
with each access: for some 260,000 tasks each is looked up in both. That is told apart from what comes before and after.
"""

import statistics
import time
from typing import Any

from bench import rig

STEP = 1_000
ROUNDS = 3
GROWTH_TASKS = 280_000  # after so many more the table has grown


def measure(tasks: int = 30_000, transport: str = "tcp", few: int = 2_000, many: int = 1_000_000) -> dict[str, Any]:
    """Tasks a second at both depths, medians of turns, and the ratios of many to few."""
    with rig.bench(transport) as shallow, rig.bench(transport) as deep:
        deep.fill([rig.NOOP] * many)
        growing_few_per_s, growing_per_s = _in_turn(shallow, deep, tasks, few)
        _at_depth(deep, GROWTH_TASKS, few)
        few_per_s, many_per_s = _in_turn(shallow, deep, tasks, few)
    return {"tasks": tasks, "transport": transport, "few_queued": few, "many_queued": many,
            "few_tasks_per_s": round(few_per_s), "many_tasks_per_s": round(many_per_s),
            "many_to_few": round(many_per_s / few_per_s, 3),
            "growing_to_few": round(growing_per_s / growing_few_per_s, 3)}


def _in_turn(shallow: rig.Bench, deep: rig.Bench, tasks: int, ahead: int) -> tuple[float, float]:
    pairs = [(_at_depth(shallow, tasks, ahead), _at_depth(deep, tasks, ahead)) for _ in range(ROUNDS)]
    few_per_s, many_per_s = zip(*pairs, strict=True)
    return statistics.median(few_per_s), statistics.median(many_per_s)


def _at_depth(bench: rig.Bench, tasks: int, ahead: int) -> float:
    """Run so many, with never less than `ahead` - STEP more than these submitted beside what waits anyway."""
    bench.fill([rig.NOOP] * ahead)
    submitted, begun, begin_s = ahead, bench.completed(), time.perf_counter()
    bench.client.resume(rig.QUEUE)
    while (done := bench.completed() - begun) < tasks:
        if submitted - done < ahead:
            bench.client.submit_many([rig.NOOP] * STEP)
            submitted += STEP
        else:
            time.sleep(0.001)
    per_s = done / (time.perf_counter() - begin_s)
    bench.client.pause(rig.QUEUE)
    return per_s
