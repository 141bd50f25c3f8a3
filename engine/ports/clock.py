"""The clock of Redis as a process knows it: every moment that is stored is dated by it."""

from typing import Protocol


class Clock(Protocol):
    def now_ms(self) -> int:
        """The time by Redis's clock, in ms since the epoch."""

    @property
    def skew_ms(self) -> float:
        """How far the host's wall clock is ahead of Redis's."""
