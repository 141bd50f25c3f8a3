"""Progress of a run, on its way to the pool: a burst at once, then as much as somebody can read."""

import time
from collections.abc import Callable

import orjson

from engine.core.worker.frames import PROGRESS, TASK_HEAD, frame

_BURST = 20
_PER_S = 20


class ProgressReporter:
    """The `report` of one run's context."""

    __slots__ = ("_credit", "_last_s", "_message", "_post")

    def __init__(self, post: Callable[[bytes], None], message: bytes) -> None:
        self._post, self._message = post, message
        self._credit, self._last_s = float(_BURST), time.monotonic()

    def __call__(self, fraction: float | None, text: str) -> None:
        now_s = time.monotonic()
        self._credit = min(_BURST, self._credit + (now_s - self._last_s) * _PER_S)
        self._last_s = now_s
        if self._credit < 1 and fraction != 1:
            return
        self._credit -= 1
        _, token, run, _, offset_ms, _ = TASK_HEAD.unpack_from(self._message)
        body = {"fraction": fraction, "message": text[:1000].encode("utf-8", "replace").decode(), "run": run,
                "at_ms": int(now_s * 1000 + offset_ms)}
        self._post(frame(PROGRESS, token, orjson.dumps(body)))
