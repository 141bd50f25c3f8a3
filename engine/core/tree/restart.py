"""How often may a child die before we stop believing in it, and how long to wait before the next try.

The rule is OTP's (erlang/otp, supervisor.erl): more than `intensity` restarts inside `period_s` seconds and the
supervisor gives up, so that whatever started it can decide.
"""

from collections import deque
from dataclasses import dataclass, field


@dataclass(slots=True)
class RestartBudget:
    """Counts restarts in a sliding window.

    `pause_s` is the pause before the second restart within the window; it doubles with each further one up to
    `pause_s_max`. The first restart is immediate.
    """

    intensity: int
    period_s: float
    pause_s: float = 0.1
    pause_s_max: float = 5.0
    _restarts: deque[float] = field(default_factory=deque)

    def spend(self, now_s: float) -> bool:
        """Record one restart; False when the budget is exceeded."""
        while self._restarts and self._restarts[0] < now_s - self.period_s:
            self._restarts.popleft()
        self._restarts.append(now_s)
        return len(self._restarts) <= self.intensity

    def next_pause_s(self) -> float:
        """Seconds to wait before the restart that was just recorded."""
        earlier = len(self._restarts) - 1
        return 0.0 if earlier < 1 else min(self.pause_s * 2.0 ** min(earlier - 1, 30), self.pause_s_max)
