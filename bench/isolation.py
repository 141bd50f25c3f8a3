"""How long after its deadline a run is dead that ignores everything, and until the next one starts in its place.

One worker. A run hangs; another waits in the queue behind it. Death is what the kernel says (a pidfd), the deadline is
the handler's own start plus its timeout, and the replacement is ready when the next handler's first line runs.
A restart storm is a queue of tasks each of which kills its worker.
"""

import contextlib
import os
import select
import tempfile
import time
from pathlib import Path
from typing import Any

from bench import rig
from bench.percentiles import percentiles
from engine.client import Client

TIMEOUT_S = 0.2
STORM = 50
WAIT_S = 30.0
MODULES = ["bench.handlers", "bench.isolation_handlers"]


def measure(tasks: int = 100, transport: str = "tcp") -> dict[str, Any]:
    """`tasks` runs that hang, half of them in C; percentiles in milliseconds, and crashes survived a second."""
    figures: dict[str, Any] = {}
    with rig.redis_server(transport) as url, tempfile.TemporaryDirectory(prefix="ganger-bench-") as folder, \
            rig.engine(url, max_workers=1, handlers=MODULES, handler_intensity=0, log_level="ERROR") as scheduler:
        for task_type in ("hang_python", "hang_c"):
            found = [_one(scheduler.client, task_type, Path(folder) / f"{task_type}{number}")
                     for number in range(max(2, tasks // 2))]
            figures |= percentiles(f"{task_type}_death_ms", [death for death, _ in found])
            figures |= percentiles(f"{task_type}_replaced_ms", [replaced for _, replaced in found])
        figures["storm_crashes_per_s"] = round(_storm(scheduler.client), 1)
    return figures


def _one(client: Client, task_type: str, mark: Path) -> tuple[float, float]:
    """From the deadline to the death, and from the death to the start of the next run; milliseconds."""
    client.submit(task_type, {"mark": str(mark)}, timeout=TIMEOUT_S)
    following = client.submit("moment", {})
    end_s = time.monotonic() + WAIT_S
    while not mark.exists():
        if time.monotonic() > end_s:
            raise RuntimeError(f"{task_type} has not started within {WAIT_S:.0f} s")
        time.sleep(0.001)
    pid, began_ns = map(int, mark.read_text().split())
    with contextlib.closing(os.fdopen(os.pidfd_open(pid))) as pidfd:
        if not select.select([pidfd], [], [], WAIT_S)[0]:
            raise RuntimeError(f"{task_type} was not ended within {WAIT_S:.0f} s")
        dead_ns = time.monotonic_ns()
    started_ns = client.result(following, wait=WAIT_S)
    return (dead_ns - began_ns) / 1e6 - TIMEOUT_S * 1e3, (started_ns - dead_ns) / 1e6


def _storm(client: Client) -> float:
    """Crashes a second, until the task behind them has its result."""
    begin_s = time.monotonic()
    client.submit_many([{"task_type": "abort", "payload": {}}] * STORM)
    client.result(client.submit("moment", {}), wait=10 * WAIT_S)
    return STORM / (time.monotonic() - begin_s)
