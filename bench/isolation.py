"""How long after its deadline a run is dead that ignores everything, and until the next one starts in its place.

One worker. A run hangs; another waits in the queue behind it. Death is what the kernel says (a pidfd), the deadline is
the handler's own start plus its timeout, and the replacement is ready when the next handler's first line runs. A run
that grows by 500 MB a second is dead so long after it has passed its `max_memory`.
A restart storm is a queue of tasks each of which kills its worker.

`python -m bench compare --isolation` measures the same of other engines.
"""

import tempfile
import time
from typing import Any

from bench import rig
from bench.marks import await_death, await_mark
from bench.percentiles import percentiles
from engine.client import Client
from engine.errors import TaskFailed

TIMEOUT_S = 0.2
STORM = 50
WAIT_S = 30.0
LIMIT_BYTES = 256 << 20
HANGS = {"hang_python": "deaf", "hang_c": "in_c"}
MODULES = ["bench.handlers", "bench.isolation_handlers"]


def measure(tasks: int = 100, transport: str = "tcp") -> dict[str, Any]:
    """`tasks` runs that hang, half of them in C; percentiles in milliseconds, and crashes survived a second."""
    figures: dict[str, Any] = {}
    with rig.redis_server(transport) as url, tempfile.TemporaryDirectory(prefix="ganger-bench-") as folder, \
            rig.engine(url, max_workers=1, handlers=MODULES, handler_intensity=0, log_level="ERROR") as scheduler:
        for name, task_type in HANGS.items():
            found = [_hang(scheduler.client, task_type, f"{folder}/{name}{number}")
                     for number in range(max(2, tasks // 2))]
            figures |= percentiles(f"{name}_death_ms", [death for death, _ in found])
            figures |= percentiles(f"{name}_replaced_ms", [replaced for _, replaced in found])
        grown = [_grow(scheduler.client, f"{folder}/grown{number}") for number in range(max(2, tasks // 5))]
        figures |= percentiles("memory_death_ms", grown)
        figures["storm_crashes_per_s"] = round(_storm(scheduler.client), 1)
    return figures


def _hang(client: Client, task_type: str, mark: str) -> tuple[float, float]:
    """From the deadline to the death, and from the death to the start of the next run; milliseconds."""
    client.submit(task_type, {"mark": mark}, timeout=TIMEOUT_S)
    following = client.submit("moment", {})
    pid, began_ns = await_mark(mark, WAIT_S)
    dead_ns = _death_of(pid)
    started_ns = client.result(following, wait=WAIT_S)
    return (dead_ns - began_ns) / 1e6 - TIMEOUT_S * 1e3, (started_ns - dead_ns) / 1e6


def _grow(client: Client, mark: str) -> float:
    """From the passing of the limit to the death; milliseconds. 0 where it came before the run knew of it."""
    task_id = client.submit("grow", {"mark": mark}, max_memory=LIMIT_BYTES)
    dead_ns = _death_of(await_mark(mark, WAIT_S)[0])
    with open(f"{mark}.steps") as steps:
        rows = [tuple(map(int, row.split())) for row in steps if row.endswith("\n")]
    passed_ns = next((at_ns for at_ns, held_bytes in rows if held_bytes > LIMIT_BYTES), dead_ns)
    try:
        client.result(task_id, wait=WAIT_S)
    except TaskFailed:
        cause = client.outcomes(task_id)[-1]["cause"]
        if cause == "out_of_memory":
            return (dead_ns - passed_ns) / 1e6
        raise RuntimeError(f"{task_id} has ended with the cause {cause}") from None
    raise RuntimeError(f"{task_id} has no limit")


def _death_of(pid: int) -> int:
    dead_ns = await_death(pid, WAIT_S)
    if dead_ns is None:
        raise RuntimeError(f"process {pid} was not ended within {WAIT_S:.0f} s")
    return dead_ns


def _storm(client: Client) -> float:
    """Crashes a second, until the task behind them has its result."""
    begin_s = time.monotonic()
    client.submit_many([{"task_type": "abort", "payload": {}}] * STORM)
    client.result(client.submit("moment", {}), wait=10 * WAIT_S)
    return STORM / (time.monotonic() - begin_s)
