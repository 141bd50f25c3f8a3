"""How many no-op tasks a second come back into a client's hands: submitted together, their results read as they come.

`throughput` ends when the last task has completed in Redis; this one when the client has the last result. Submitting,
running and reading go on at once, on the same cores.
"""

import statistics
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from bench import rig
from engine.client import Client

ROUNDS = 3
PATIENCE_S = 60.0


def measure(tasks: int = 20_000, transport: str = "tcp", workers: int = 2, **settings: Any) -> dict[str, Any]:
    """Medians of three rounds in which each way to read has its turn.

    `read_us_per_task` is processor time of the client alone, for tasks that have all ended, their status and result
    looked at.
    """
    rates: dict[str, list[float]] = {way: [] for way in WAYS}
    reads_us = []
    with rig.bench(transport, max_workers=workers, **settings) as bench:
        ids: list[str] = []
        for _ in range(ROUNDS):
            for way, read in WAYS.items():
                begin_s = time.perf_counter()
                ids = bench.client.submit_many([rig.NOOP] * tasks)
                count = _exhaust(read(bench.client, ids))
                rates[way].append(count / (time.perf_counter() - begin_s))
            begin_s = time.process_time()
            _exhaust((task.status, task.result) for task in bench.client.wait(ids, PATIENCE_S))
            reads_us.append((time.process_time() - begin_s) / tasks * 1e6)
    return {"tasks": tasks, "rounds": ROUNDS, "workers": workers, "transport": transport,
            **{f"{way}_per_s": round(statistics.median(found)) for way, found in rates.items()},
            "read_us_per_task": round(statistics.median(reads_us), 1)}


def _exhaust(values: Iterable[Any]) -> int:
    """How many there are; none is kept."""
    numbered = deque(enumerate(values, 1), maxlen=1)
    return numbered[0][0] if numbered else 0


WAYS: dict[str, Callable[[Client, list[str]], Iterable[Any]]] = {
    "results": lambda client, ids: client.results(ids, PATIENCE_S),
    "as_completed": lambda client, ids: (task.result for task in client.as_completed(ids, PATIENCE_S)),
    "wait": lambda client, ids: [task.result for task in client.wait(ids, PATIENCE_S)],
}
