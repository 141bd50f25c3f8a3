"""The clock of Redis as a process knows it: every moment that is stored is dated by it."""

from typing import Protocol


class Clock(Protocol):
    def now_ms(self) -> int:
        """The time by Redis's clock, in ms since the epoch."""

    @property
    def offset_ms(self) -> float:
        """How far it is ahead of this process's monotonic clock."""
