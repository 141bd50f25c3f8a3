"""How soon an URGENT task starts while LOW ones that take a minute of CPU time have every worker. Milliseconds.

One urgent task after the other, each after a pause. `low_hurt` is how many of the LOW runs have ended or were started
again meanwhile; the others are cancelled afterwards.
"""

import time
from typing import Any

from bench import rig
from bench.percentiles import percentiles
from engine.client import Client
from engine.core.task.lifecycle import TaskStatus

SPIN_S = 60.0
WAIT_S = 60.0
WARM_UP = 100


def measure(tasks: int = 300, transport: str = "tcp", workers: int = 2, pause_s: float = 0.05) -> dict[str, Any]:
    """Percentiles of the times from submit to start, and to the result."""
    starts, results = [], []
    with rig.redis_server(transport) as url, rig.engine(url, max_workers=workers) as scheduler:
        client = scheduler.client
        for _ in range(WARM_UP):
            client.result(client.submit("moment", {}), wait=WAIT_S)
        busy = [client.submit("spin", {"s": SPIN_S}, priority="LOW", timeout=2 * SPIN_S) for _ in range(workers)]
        _await_running(client, workers)
        for _ in range(tasks):
            time.sleep(pause_s)
            submitted_ns = time.monotonic_ns()
            started_ns = client.result(client.submit("moment", {}, priority="URGENT"), wait=WAIT_S)
            results.append((time.monotonic_ns() - submitted_ns) / 1e6)
            starts.append((started_ns - submitted_ns) / 1e6)
        left = sum(task.run == 1 and task.status is TaskStatus.RUNNING for task in map(client.get, busy))
        for task_id in busy:
            client.cancel(task_id)
    return {"tasks": tasks, "workers": workers, "transport": transport, "low_hurt": workers - left,
            **percentiles("start_ms", starts), **percentiles("result_ms", results)}


def _await_running(client: Client, count: int) -> None:
    end_s = time.monotonic() + WAIT_S
    while client.counts().get("RUNNING", 0) < count:
        if time.monotonic() > end_s:
            raise RuntimeError(f"{count} LOW tasks have not started within {WAIT_S:.0f} s")
        time.sleep(0.01)
