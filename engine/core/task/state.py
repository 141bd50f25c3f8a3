"""Where a task is now, as it is stored: one short line that only the scripts write.

    RUNNING 2 1 0 1 57 1732381289123 pool-7f3a
    status  run attempts crashes priority rank at_ms owner

A task that was queued at submit and never claimed has no state: it is
QUEUED, run 0. `rank` orders the tasks of one lane; a retried or rescued task
goes back to it. The run number only grows and fences every
write: settling names the run, and a newer run refuses it.
"""

import re
from typing import NamedTuple

from engine.core.task.lifecycle import TaskStatus
from engine.core.task.priority import TaskPriority

# As the scripts read it (lua/include/state.lua). A line that only one of the two could read would be rescued for ever.
# Counts have nine digits at most, so that a frame can carry them; moments and ranks fourteen, which Lua keeps exactly.
_LINE = re.compile(rb"([A-Z]+) (\d{1,9}) (\d{1,9}) (\d{1,9}) (\d) (\d{1,14}) (\d{1,14}) (\S+)")
_STATUSES = {status.encode(): status for status in TaskStatus}
_PRIORITIES = {b"%d" % priority: priority for priority in TaskPriority}


class StoredState(NamedTuple):
    status: TaskStatus
    run: int = 0  # number of the latest run, 0 before the first
    attempts: int = 0  # runs that ended in the handler's own failure
    crashes: int = 0  # runs that ended with a dead worker
    priority: TaskPriority = TaskPriority.NORMAL
    rank: int = 0  # order in its lane; 0 for none yet
    at_ms: int = 0  # time of the last change
    owner: str = "-"  # the supervisor whose lease covers the run

    @classmethod
    def parse(cls, line: bytes) -> "StoredState":
        """Read a stored line; raises `ValueError` if it is not one."""
        parts = _LINE.fullmatch(line)
        try:
            if parts is None:
                raise ValueError
            status, run, attempts, crashes, priority, rank, at_ms, owner = parts.groups()
            return cls(_STATUSES[status], int(run), int(attempts), int(crashes), _PRIORITIES[priority], int(rank),
                       int(at_ms), owner.decode())
        except (KeyError, ValueError) as error:  # a UnicodeDecodeError is a ValueError
            raise ValueError(f"not a stored state: {line[:100]!r}") from error

    @staticmethod
    def status_of(line: bytes) -> TaskStatus | None:
        """The status alone, in a third of the time; None where only `parse` can tell."""
        parts = _LINE.fullmatch(line)
        if parts is None or parts[5] not in _PRIORITIES or not parts[8].isascii():
            return None
        return _STATUSES.get(parts[1])
