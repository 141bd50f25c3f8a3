"""The life of a task, as one table.

Rule 1: every status, every move and every legal pair of them lives here.
Rule 2: this file knows nothing of Redis, processes, pipes or clocks.
Rule 3: a pair that is missing is the illegal move; it changes nothing.

The Redis scripts obey the same table: `adapters/redis/wire/scripts.py` renders
MOVES into them, so there is no second copy to keep in step.
"""

from enum import StrEnum


class TaskStatus(StrEnum):
    """Where a task is, and who moves it on from there."""

    PENDING = "PENDING"  # accepted, due later; the keeper moves it
    QUEUED = "QUEUED"  # in a line of its queue; a supervisor's claim moves it
    RUNNING = "RUNNING"  # leased to one supervisor, which settles it; the keeper if the lease lapses
    RETRYING = "RETRYING"  # waits for its backoff; the keeper moves it
    COMPLETED = "COMPLETED"  # final
    FAILED = "FAILED"  # final, until somebody retries it
    CANCELLED = "CANCELLED"  # final, until somebody retries it
    TIMEOUT = "TIMEOUT"  # final, until somebody retries it

    @property
    def is_final(self) -> bool:
        return self in FINAL


class Move(StrEnum):
    """What can happen to a task."""

    PROMOTE = "promote"  # its time has come
    CLAIM = "claim"  # a supervisor takes it
    COMPLETE = "complete"  # the handler returned
    RETRY = "retry"  # to be run again after a pause
    RELEASE = "release"  # given back unharmed: shutdown, lapsed lease
    FAIL = "fail"
    TIME_OUT = "time_out"
    CANCEL = "cancel"
    EXPIRE = "expire"  # nobody started it before its `expires`
    REQUEUE = "requeue"  # somebody asked for it again after its end


MOVES: dict[TaskStatus, dict[Move, TaskStatus]] = {
    TaskStatus.PENDING: {
        Move.PROMOTE: TaskStatus.QUEUED,
        Move.CANCEL: TaskStatus.CANCELLED,
        Move.EXPIRE: TaskStatus.FAILED,
    },
    TaskStatus.QUEUED: {
        Move.CLAIM: TaskStatus.RUNNING,
        Move.CANCEL: TaskStatus.CANCELLED,
        Move.EXPIRE: TaskStatus.FAILED,
    },
    TaskStatus.RUNNING: {
        Move.COMPLETE: TaskStatus.COMPLETED,
        Move.RETRY: TaskStatus.RETRYING,
        Move.RELEASE: TaskStatus.QUEUED,
        Move.FAIL: TaskStatus.FAILED,
        Move.TIME_OUT: TaskStatus.TIMEOUT,
        Move.CANCEL: TaskStatus.CANCELLED,
    },
    TaskStatus.RETRYING: {
        Move.PROMOTE: TaskStatus.QUEUED,
        Move.CANCEL: TaskStatus.CANCELLED,
        Move.EXPIRE: TaskStatus.FAILED,
    },
    TaskStatus.COMPLETED: {},
    TaskStatus.FAILED: {Move.REQUEUE: TaskStatus.QUEUED},
    TaskStatus.CANCELLED: {Move.REQUEUE: TaskStatus.QUEUED},
    TaskStatus.TIMEOUT: {Move.REQUEUE: TaskStatus.QUEUED},
}

FINAL = frozenset({TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED, TaskStatus.TIMEOUT})


class IllegalMove(Exception):
    """A task was asked to make a move that its status does not allow."""


def step(status: TaskStatus, move: Move) -> TaskStatus:
    """Return the status after `move`; raise `IllegalMove` where the table has no such pair."""
    try:
        return MOVES[status][move]
    except KeyError:
        raise IllegalMove(f"cannot {move} a task that is {status}") from None
