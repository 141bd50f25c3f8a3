"""Whether a million queued tasks slow down what a thousand do not.

Both times the queue is kept at its depth by the same feeder, which submits a
thousand as a thousand complete; so both carry the same load beside the work.
"""

import time
from typing import Any

from bench import rig

STEP = 1_000


def measure(tasks: int = 60_000, transport: str = "tcp", few: int = 2_000, many: int = 1_000_000) -> dict[str, Any]:
    """Tasks a second at both depths, the few measured before and after the many, and the ratio many to few."""
    with rig.bench(transport) as bench:
        few_per_s = _at_depth(bench, tasks // 2, few)
        bench.client.pause(rig.QUEUE)
        bench.client.submit_many([rig.NOOP] * many)
        many_per_s = _at_depth(bench, tasks, few)
    with rig.bench(transport) as bench:
        few_per_s = (few_per_s + _at_depth(bench, tasks // 2, few)) / 2
    return {"tasks": tasks, "transport": transport, "few_queued": few, "many_queued": many,
            "few_tasks_per_s": round(few_per_s), "many_tasks_per_s": round(many_per_s),
            "many_to_few": round(many_per_s / few_per_s, 3)}


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
    return done / (time.perf_counter() - begin_s)
