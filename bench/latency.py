"""How long until an idle engine starts a task, and until its submitter has the result. Milliseconds."""

import statistics
import time
from typing import Any

from bench import rig


def measure(tasks: int = 1000, transport: str = "tcp", pause_s: float = 0.003) -> dict[str, Any]:
    """One task after the other, each after a short pause; percentiles of both times."""
    starts, results = [], []
    with rig.redis_server(transport) as url, rig.engine(url) as scheduler:
        client = scheduler.client
        for _ in range(100):
            client.result(client.submit("moment", {}), wait=10)
        for _ in range(tasks):
            time.sleep(pause_s)
            submitted_ns = time.monotonic_ns()
            started_ns = client.result(client.submit("moment", {}), wait=10)
            results.append((time.monotonic_ns() - submitted_ns) / 1e6)
            starts.append((started_ns - submitted_ns) / 1e6)
    return {"tasks": tasks, "transport": transport, **_percentiles("start_ms", starts),
            **_percentiles("result_ms", results)}


def _percentiles(name: str, values: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(values, n=100)
    return {f"{name}_p50": round(cuts[49], 3), f"{name}_p99": round(cuts[98], 3)}
