"""How long until an idle engine starts a task, and until its submitter has the result. Milliseconds."""

import time
from typing import Any

from bench import rig
from bench.percentiles import percentiles


def measure(tasks: int = 1000, transport: str = "tcp", pause_s: float = 0.003) -> dict[str, Any]:
    """One task after the other, each after a short pause; percentiles of both times."""
    starts, results = [], []
    with rig.bench(transport) as bench:
        client = bench.client
        for _ in range(100):
            client.result(client.submit("moment", {}), wait=10)
        for _ in range(tasks):
            time.sleep(pause_s)
            submitted_ns = time.monotonic_ns()
            started_ns = client.result(client.submit("moment", {}), wait=10)
            results.append((time.monotonic_ns() - submitted_ns) / 1e6)
            starts.append((started_ns - submitted_ns) / 1e6)
    return {"tasks": tasks, "transport": transport, **percentiles("start_ms", starts),
            **percentiles("result_ms", results)}
