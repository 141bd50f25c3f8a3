"""A lock for the one process of several that leads."""

from typing import Protocol


class LeaderLock(Protocol):
    """One contender's side of the lock. Each method may raise `BrokerError`.

    A leader names itself in each write by which it acts, since it may have lost the lead meanwhile.
    """

    def take(self, for_s: float) -> bool:
        """Lead for so many seconds, or for longer if we lead already; False if another process leads."""

    def give_up(self) -> None:
        """Let another process lead at once."""
