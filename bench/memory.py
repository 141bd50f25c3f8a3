"""What one more idle worker costs in memory, with handlers that import numpy: PSS of the tree by its size."""

from typing import Any

from bench import rig
from bench.processes import Tree, pss_mib

FEW, MANY = 2, 10


def measure(transport: str = "tcp") -> dict[str, Any]:
    """Start an engine with few workers and one with many; what differs is the workers. MiB."""
    few_mib, many_mib = _tree_mib(transport, FEW), _tree_mib(transport, MANY)
    return {"workers": MANY, "transport": transport, "tree_pss_mib": round(few_mib, 1),
            "worker_pss_mib": round((many_mib - few_mib) / (MANY - FEW), 2)}


def _tree_mib(transport: str, workers: int) -> float:
    modules = ["bench.handlers", "bench.heavy_handlers"]
    with rig.bench(transport, max_workers=workers, handlers=modules) as bench:
        bench.client.wait(bench.client.submit_many(
            [{"task_type": "total", "payload": {"numbers": [1, 2, 3]}}] * workers * 20), timeout=60)
        return sum(map(pss_mib, Tree.of(bench.scheduler).all))
