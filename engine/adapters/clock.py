"""The one clock of a process: milliseconds by Redis's clock, carried on by the monotonic one.

Law: whatever is written to Redis is dated by Redis's clock, so that the
hosts need not agree and a jump of a host's wall clock changes nothing.
"""

import time

STALE_S = 30.0  # quartz drifts about 1 ms a minute; measured again this often


class RedisClock:
    """Before the first calibration it takes the host's wall clock for Redis's."""

    def __init__(self) -> None:
        self.offset_ms = time.time() * 1000 - time.monotonic() * 1000
        self._calibrated_s = float("-inf")

    def now_ms(self) -> int:
        """Milliseconds since the epoch, by Redis's clock."""
        return int(time.monotonic() * 1000 + self.offset_ms)

    def calibrate(self, redis_time_ms: float, sent_s: float, received_s: float) -> None:
        """Take Redis's TIME, asked at `sent_s` and answered at `received_s` of time.monotonic().

        The answer is dated to the middle of the round trip (Cristian 1989): wrong by half of it at most.
        """
        self.offset_ms = redis_time_ms - (sent_s + received_s) / 2 * 1000
        self._calibrated_s = received_s

    @property
    def is_stale(self) -> bool:
        """Whether it has never been calibrated, or too long ago."""
        return time.monotonic() - self._calibrated_s > STALE_S

    @property
    def skew_ms(self) -> float:
        """How far the host's wall clock is ahead of Redis's."""
        return time.time() * 1000 - (time.monotonic() * 1000 + self.offset_ms)
