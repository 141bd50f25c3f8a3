"""A slot of a pool: its worker process, the runs that were sent to it, and when to look at it again.

Plain state. The parts of the dispatcher in this folder change it; code outside this folder only reads it.
"""

from collections import deque
from dataclasses import dataclass, field
from enum import Enum

from engine.core.task.limits import Limits
from engine.core.task.outcome import Cause
from engine.core.task.policy import RunPolicy

NEVER = float("inf")
COUNT_MAX = 1 << 62


@dataclass(slots=True, eq=False)
class Run:
    """One execution of a task that this pool has claimed.

    `token` names the run on the pipe; `task_id` and `number` name it in Redis, where `number` is the fence.
    """

    task_id: bytes
    number: int
    attempts: int
    crashes: int
    task_type: str
    queue: str
    policy: RunPolicy
    record: bytes
    token: int
    is_alone: bool = False  # never in a pipe with others: longer than one packet, or with limits for itself alone
    priority: int = 1  # of TaskPriority
    since_s: float = 0.0  # when it came to the pool
    cancelled: str | None = None  # the reason, once it is to be cancelled
    suspended_s: float = 0.0  # how long it was suspended in all, without the time since the last suspension


class Phase(Enum):
    """What a slot's worker does. The values are the states that reports show."""

    DOWN = "down"  # no process; `deadline_s` is when to spawn one
    BOOTING = "booting"  # a process that has not said ready; `deadline_s` is when to give up on it
    STANDBY = "standby"  # ready and outside the pool's size, to take over later; `deadline_s` is when to let it go
    UP = "up"  # `runs[0]` is being executed; `deadline_s` is when to look at it again
    SUSPENDED = "frozen"  # `runs[0]` is suspended for an urgent run; another worker counts toward the size instead
    QUITTING = "quitting"  # told to exit when done; `deadline_s` is when to kill it
    DYING = "dying"  # being killed; the host reports the exit


@dataclass(slots=True)
class Slot:
    index: int
    phase: Phase = Phase.DOWN
    deadline_s: float = NEVER
    runs: deque[Run] = field(default_factory=deque)
    since_s: float = 0.0  # when runs[0] started, as far as the pool can know
    interrupted: bool = False  # runs[0] was told to end by itself
    kill_cause: Cause | None = None  # why runs[0] is being killed; None: the kill is not about the run
    limits: Limits | None = None  # what its runs are held to
    limit_message: str = ""  # the limit that runs[0] has passed, in words
    boot_timed_out: bool = False  # it is being killed because it did not become ready in time
    retiring: bool = False  # gets no more runs, and is replaced when it has none left
    served: int = 0  # runs that this worker has ended
    started_s: float = NEVER  # when the process was asked for
    pid: int | None = None
    restarts: int = 0
    start_failed: bool = False  # a start hook of the user's raised in it, or the host had no process for it
    counts_toward_size: bool = True  # False: empty, a replacement, on standby, suspended, or about to exit
    leaving: bool = False  # to be retired as soon as its replacement is ready
    retire_at: int = COUNT_MAX  # the number of runs served at which its replacement is prepared, then it is retired
    suspended_at_s: float | None = None  # since when runs[0] is suspended
    suspended_bytes: int = 0  # memory of the worker and everything below it meanwhile

    def running_s(self, now_s: float) -> float:
        """How long runs[0] has been executed, in seconds, without the time for which it was suspended."""
        return (now_s if self.suspended_at_s is None else self.suspended_at_s) - self.since_s

    def suspended_s(self, now_s: float) -> float:
        """How long runs[0] has been suspended in all, in seconds; 0 without a run."""
        suspended_s = self.runs[0].suspended_s if self.runs else 0.0
        return suspended_s if self.suspended_at_s is None else suspended_s + now_s - self.suspended_at_s
