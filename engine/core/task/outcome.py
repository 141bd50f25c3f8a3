"""How one run ended: its status, the cause beside it, and what it used.

One named constructor for each end that the supervisor decides. What a
handler returned or raised is written by the worker in the same shape and
passed on unread; `Outcome.encode` is that shape.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import orjson

from engine.core.task.lifecycle import TaskStatus

EXIT_DESCRIPTORS_CLOSED = 71  # EX_OSERR; of a worker whose handler has closed the descriptors to its pool


class Cause(StrEnum):
    """Why a run ended."""

    RETURNED = "returned"
    RAISED = "raised"
    RETRY_ASKED = "retry_asked"  # the handler raised Retry
    CANCELLED = "cancelled"
    TIMEOUT = "timeout"  # killed at the deadline
    SOFT_TIMEOUT = "soft_timeout"  # ended by SoftTimeout before the deadline
    OUT_OF_MEMORY = "out_of_memory"  # over its max_memory, or ended by the kernel's OOM killer
    CPU_TIME = "cpu_time"  # over its max_cpu_seconds
    PROCESSES = "processes"  # over its max_processes
    KILLED = "killed"  # by a signal that was not ours
    EXITED = "exited"  # the handler ended its process
    LEASE_LOST = "lease_lost"  # its supervisor fell silent; the run's fate is unknown
    POISON = "poison"  # it keeps killing workers or supervisors, and is set aside
    EXPIRED = "expired"  # nobody started it in time
    HANDLER_STOPPED = "handler_stopped"  # not started: its handler keeps costing workers
    INVALID_PAYLOAD = "invalid_payload"
    INVALID_RESULT = "invalid_result"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of one run. Times are ms of Redis's clock, durations seconds, memory bytes."""

    cause: Cause
    kind: str  # the error's class, or the cause where there was no exception
    message: str
    run: int
    started_ms: int | None = None
    ended_ms: int | None = None
    wall_s: float | None = None
    cpu_s: float | None = None
    peak_rss_bytes: int | None = None
    worker: str | None = None
    pid: int | None = None
    post_mortem: dict[str, Any] | None = None
    remark: str = ""  # what to add to the message of a run that hung; not stored by itself
    quarantined: bool = False  # the task is set aside: it has cost as many workers as it may

    @classmethod
    def timed_out(cls, run: int, timeout_s: float, remark: str = "", **facts: Any) -> "Outcome":
        message = f"still running after its timeout of {timeout_s:g} s" + (f"; {remark}" if remark else "")
        return cls(Cause.TIMEOUT, "Timeout", message, run, **facts)

    @classmethod
    def cancelled(cls, run: int, reason: str, **facts: Any) -> "Outcome":
        return cls(Cause.CANCELLED, "Cancelled", reason, run, **facts)

    @classmethod
    def over_limit(cls, run: int, cause: Cause, message: str, **facts: Any) -> "Outcome":
        return cls(cause, _KINDS[cause], message, run, **facts)

    @classmethod
    def out_of_memory(cls, run: int, by: str, **facts: Any) -> "Outcome":
        """The kernel's OOM killer ended it; `by` says how that is known."""
        return cls(Cause.OUT_OF_MEMORY, "OutOfMemory", f"ended by the kernel's OOM killer ({by})", run, **facts)

    @classmethod
    def killed(cls, run: int, signal: str, **facts: Any) -> "Outcome":
        return cls(Cause.KILLED, "WorkerKilled", f"the worker was killed by {signal}", run, **facts)

    @classmethod
    def exited(cls, run: int, exit_code: int | None, **facts: Any) -> "Outcome":
        """`exit_code`: None where somebody else has taken the exit status."""
        if exit_code == EXIT_DESCRIPTORS_CLOSED:
            message = ("the worker could not answer: the handler has closed descriptors that are not its own "
                       "(os.closerange, say), among them the worker's")
        elif exit_code is None:
            message = "the worker ended in the middle of the run; its exit status is not known"
        else:
            message = f"the worker exited with code {exit_code} in the middle of the run"
        return cls(Cause.EXITED, "WorkerExited", message, run, **facts)

    @classmethod
    def handler_stopped(cls, run: int, task_type: str, pause_s: float, deaths: int) -> "Outcome":
        return cls(Cause.HANDLER_STOPPED, "HandlerStopped", f"not started: {task_type!r} has cost {deaths} workers, "
                   f"and is stopped for another {pause_s:.1f} s", run)

    @classmethod
    def unreadable(cls, run: int, reason: str) -> "Outcome":
        return cls(Cause.INVALID_PAYLOAD, "UnreadableRecord", f"the stored record cannot be read: {reason}", run)

    def renamed(self, end: "Outcome") -> "Outcome":
        """The same facts of the process, ended for the reason that `end` gives."""
        return replace(self, cause=end.cause, kind=end.kind, message=end.message)

    def encode(self) -> bytes:
        """JSON as it is stored."""
        return orjson.dumps({
            "run": self.run, "cause": self.cause, "result": None,
            "error": {"kind": self.kind, "message": self.message, "traceback": None},
            "started_ms": self.started_ms, "ended_ms": self.ended_ms, "wall_s": self.wall_s, "cpu_s": self.cpu_s,
            "peak_rss_bytes": self.peak_rss_bytes, "worker": self.worker, "pid": self.pid,
            "post_mortem": self.post_mortem, **({"quarantined": True} if self.quarantined else {}),
        })


def is_quarantined(status: TaskStatus, outcome: Mapping[str, Any] | None) -> bool:
    """Whether a task was set aside, as the stored outcome of its latest run says."""
    return status is TaskStatus.FAILED and outcome is not None and outcome.get("quarantined") is True


_KINDS = {Cause.OUT_OF_MEMORY: "OutOfMemory", Cause.CPU_TIME: "CpuTimeExceeded",
          Cause.PROCESSES: "TooManyProcesses"}
