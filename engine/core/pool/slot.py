"""A slot of a pool, the worker in it and the runs that were sent to it: plain state, changed only by `dispatch`."""

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
    is_alone: bool = False  # never in a pipe with others: of more than one packet, or with limits for itself alone
    priority: int = 1  # of TaskPriority
    since_s: float = 0.0  # when it came to the pool
    cancelled: str | None = None  # why, once somebody asked for it
    frozen_s: float = 0.0  # how long it has stood still for others, and does so no more


class Phase(Enum):
    DOWN = "down"  # no process; `deadline_s` is when to spawn one
    BOOTING = "booting"  # a process that has not said ready; `deadline_s` is when to give up on it
    STANDBY = "standby"  # it could be given runs, and waits to take another worker's place; `deadline_s`: until when
    UP = "up"  # `runs[0]` is being executed; `deadline_s` is when to look at it again
    FROZEN = "frozen"  # `runs[0]` stands still so that an urgent run can have its place
    QUITTING = "quitting"  # told to go when done; `deadline_s` is when to kill it
    DYING = "dying"  # being killed; the host reports the exit


@dataclass(slots=True)
class Slot:
    index: int
    phase: Phase = Phase.DOWN
    deadline_s: float = NEVER
    runs: deque[Run] = field(default_factory=deque)
    since_s: float = 0.0  # when runs[0] started, as far as the pool can know
    interrupted: bool = False  # runs[0] was told to end by itself
    doom: Cause | None = None  # why runs[0] is being killed
    limits: Limits | None = None  # what its runs are held to
    breach: str = ""  # the limit that runs[0] has passed, in words
    retiring: bool = False  # gets nothing more, and is replaced when it has nothing left
    served: int = 0  # runs that this worker has ended
    started_s: float = NEVER  # when the process was asked for
    pid: int | None = None
    restarts: int = 0
    start_failed: bool = False  # a hook of the user's raised in it before it was up, or the host had no process for it
    spare: bool = False  # no place of the pool: nobody is in it, or who stands by or still, or on its way out
    leaving: bool = False  # to be retired as soon as its heir is ready
    notice: int = COUNT_MAX  # of runs served: when to think of its end
    frozen_at_s: float | None = None  # since when runs[0] stands still
    frozen_bytes: int = 0  # what the worker and everything below it hold meanwhile

    def running_s(self, now_s: float) -> float:
        """How long runs[0] has been executed, without the time for which it stood still."""
        return (now_s if self.frozen_at_s is None else self.frozen_at_s) - self.since_s

    def stood_s(self, now_s: float) -> float:
        """How long runs[0] has stood still in all; 0 without one."""
        stood_s = self.runs[0].frozen_s if self.runs else 0.0
        return stood_s if self.frozen_at_s is None else stood_s + now_s - self.frozen_at_s
