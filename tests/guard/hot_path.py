"""`python -m tests.guard.hot_path TASKS`: the pool's own code for so many no-op tasks, with nothing real around it.

Every part of the pool is real but host, broker and poller, which only note what they are asked for; so each run
executes the same instructions, and the difference of two runs is what the tasks between them cost.
"""

import itertools
import sys

from engine.core.pool.window import Windows
from engine.core.task.record import Record
from engine.ports.host import Replied
from tests.unit.services.pool.pool_harness import PoolHarness

BATCH = 100
RECORD = Record("noop", "bench", 1, 1, b'{"data":"' + b"x" * 89 + b'"}').encode()
OUTCOME = b'{"run":1,"result":null}'


def main(tasks: int) -> None:
    harness, numbers = PoolHarness(), itertools.count()
    harness.pool.core.windows = Windows(BATCH)
    harness.pool.core.windows.mean_s = 0.0
    harness.pool.core.windows.observe("noop", 0.00005)
    ended = 0
    while ended < tasks:
        claimed = [part for _ in range(BATCH) for part in (b"%019d" % next(numbers), RECORD, b"1 0 0")]
        harness.answer(*claimed)
        while runs := [(slot.index, run.token) for slot in harness.pool.core.slots for run in slot.runs]:
            harness.host.happened = [Replied(slot, token, b"C", 50, OUTCOME) for slot, token in runs]
            harness.host.asked.clear()
            ended += len(runs)
            harness.turn()
    assert ended >= tasks, f"{ended} of {tasks} tasks were run"


if __name__ == "__main__":
    main(int(sys.argv[1]))
