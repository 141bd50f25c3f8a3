"""Whether a worker keeps more memory from run to run than it should: looked at between runs, ten times a second.

What counts is what only this process holds; not files that it maps, nor what it shares in /dev/shm.
"""

import gc
import os
from collections.abc import Callable

import orjson

from engine.core.worker.frames import GROWN, frame

_LOOK_S = 0.1
_NEVER = float("inf")
_PAGE_BYTES = os.sysconf("SC_PAGESIZE")


class MemoryGrowth:
    """Tells the pool once. `look_s` is the moment (time.monotonic) of the next look."""

    def __init__(self, bytes_max: int, post: Callable[[bytes], None]) -> None:
        self._bytes_max, self._post = bytes_max, post
        self._start_bytes = _held_bytes() if bytes_max else 0
        self.look_s = 0.0 if bytes_max else _NEVER

    def look(self, now_s: float) -> None:
        self.look_s = now_s + _LOOK_S
        if not self._is_over():
            return
        gc.collect()  # what is only waiting for that is no growth
        if self._is_over():
            self.look_s = _NEVER
            self._post(frame(GROWN, 0, orjson.dumps({"bytes": _held_bytes() - self._start_bytes})))

    def _is_over(self) -> bool:
        return _held_bytes() > self._start_bytes + self._bytes_max


def _held_bytes() -> int:
    with open("/proc/self/statm", "rb") as file:
        fields = file.read().split()
    return (int(fields[1]) - int(fields[2])) * _PAGE_BYTES
