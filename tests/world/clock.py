"""Simulated time: it jumps from event to event, and each event may add others."""

import heapq
from collections.abc import Callable
from itertools import count
from typing import Any

from engine.adapters.clock import RedisClock

REDIS_MS = 1_700_000_000_000.0  # what Redis's clock shows when the world begins


class Timeline:
    """The events to come, in order. No process of the world can read `now_s`."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._number = count()

    def at(self, moment_s: float, do: Callable[..., None], *args: Any) -> None:
        heapq.heappush(self._heap, (max(moment_s, self.now_s), next(self._number), do, args))

    def after(self, pause_s: float, do: Callable[..., None], *args: Any) -> None:
        self.at(self.now_s + pause_s, do, *args)

    def run_until(self, moment_s: float, has_ended: Callable[[], bool] = lambda: False) -> None:
        """May be called from within an event: the world goes on while a call blocks."""
        heap = self._heap
        while heap and heap[0][0] <= moment_s and not has_ended():
            at_s, _, do, args = heapq.heappop(heap)
            self.now_s = max(self.now_s, at_s)
            do(*args)
        if not has_ended():
            self.now_s = max(self.now_s, moment_s)


class HostTime:
    """The monotonic clock of a host. It began at some moment, and does not jump."""

    def __init__(self, timeline: Timeline, began_s: float) -> None:
        self.timeline, self.began_s = timeline, began_s

    def __call__(self) -> float:
        return self.timeline.now_s + self.began_s


class RedisTime:
    """The wall clock of the host of Redis. It may jump."""

    def __init__(self, timeline: Timeline) -> None:
        self.timeline, self.jumped_ms = timeline, 0.0

    def __call__(self) -> float:
        return REDIS_MS + self.timeline.now_s * 1000 + self.jumped_ms


class WorldClock(RedisClock):
    """What a process takes for the time of Redis: that of its last question, plus what its host has measured since."""

    def __init__(self, host_s: HostTime, wrong_ms: float) -> None:
        super().__init__()
        self.host_s = host_s
        self.offset_ms = REDIS_MS - host_s.began_s * 1000 + wrong_ms  # the host's wall clock, until it has asked

    def now_ms(self) -> int:
        return int(self.host_s() * 1000 + self.offset_ms)

    def set_by(self, redis_ms: float) -> None:
        self.offset_ms = redis_ms - self.host_s() * 1000
        self._calibrated_s = self.host_s()

    @property
    def is_stale(self) -> bool:
        return self.host_s() - self._calibrated_s > 30.0
