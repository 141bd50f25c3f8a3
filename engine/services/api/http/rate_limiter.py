"""How often each caller may call: a token bucket for each, in the memory of this process."""

import math
import time
from collections import OrderedDict
from collections.abc import Callable

from engine.services.api.http.problems import HttpError

CALLERS_MAX = 10_000  # remembered; the one seen longest ago is forgotten first
BURST_S = 2.0  # so many seconds of the rate may come at once


class RateLimiter:
    """Used on one event loop. `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens, and when they were counted

    def take(self, caller: str, rate_per_s: float, burst: float | None = None) -> None:
        """Take one token of a caller.

        Args:
            rate_per_s: tokens that are added each second; 0 is no limit.
            burst: tokens that may be taken at once, else those of BURST_S seconds.

        Raises: `HttpError` with the time to wait.
        """
        if rate_per_s <= 0:
            return
        now_s, most = self._clock(), max(1.0, burst or rate_per_s * BURST_S)
        tokens, counted_s = self._buckets.pop(caller, (most, now_s))
        tokens = min(most, tokens + (now_s - counted_s) * rate_per_s)
        if tokens < 1:
            self._buckets[caller] = tokens, now_s
            wait_s = math.ceil((1 - tokens) / rate_per_s)
            rate = f"{rate_per_s:g} requests a second"
            raise HttpError(429, f"more than {rate}", limit=rate, headers={"Retry-After": str(wait_s)})
        self._buckets[caller] = tokens - 1, now_s
        if len(self._buckets) > CALLERS_MAX:
            self._buckets.popitem(last=False)
