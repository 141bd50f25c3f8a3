"""What it costs to look at every process of an engine with 16 workers once a second, as its keeper does."""

import time
from typing import Any

from bench import rig
from bench.processes import Tree
from engine.adapters.kernel.descendants import descendants
from engine.adapters.kernel.probe import Probe

WORKERS = 16


def measure(looks: int = 40, transport: str = "tcp") -> dict[str, Any]:
    """CPU of so many looks at one a second, as a share of a core; what they find goes nowhere."""
    with rig.redis_server(transport) as url, rig.engine(url, max_workers=WORKERS) as scheduler:
        tree = Tree.of(scheduler)
        probe = Probe(tree.root.pid, descendants)
        found = probe.sample()
        assert len(found) > WORKERS, f"{len(found)} processes"
        before_s = time.process_time()
        for _ in range(looks):
            probe.sample()
        used_s = time.process_time() - before_s
    return {"looks": looks, "processes": len(found), "sampling_cpu_percent": round(used_s / looks * 100, 3)}

