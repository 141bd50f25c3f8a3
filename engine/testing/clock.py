"""A clock that moves only when it is told to."""

from datetime import UTC, datetime

START_MS = 1_735_689_600_000  # 2025-01-01 00:00 UTC


class FakeClock:
    """Milliseconds since 1970; `advance` is the only thing that moves it."""

    def __init__(self, start_ms: int = START_MS) -> None:
        self._now_ms = start_ms

    def now_ms(self) -> int:
        return self._now_ms

    @property
    def now(self) -> datetime:
        return datetime.fromtimestamp(self._now_ms / 1000, UTC)

    def advance(self, seconds: float) -> None:
        """Let time pass. Raises `ValueError` for a negative amount."""
        if not seconds >= 0:
            raise ValueError(f"time passes by 0 seconds or more, not by {seconds!r}")
        self._now_ms += round(seconds * 1000)
