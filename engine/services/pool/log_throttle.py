"""Logs a state that lasts, such as a Redis that is away or full, when it begins and then once a minute."""

AGAIN_S = 60.0


class LogThrottle:
    """For one kind of state, which may have one reason after another."""

    def __init__(self) -> None:
        self._reason: str | None = None
        self._again_s = 0.0

    def should_log(self, reason: str, now_s: float) -> bool:
        """Whether to log it now (a moment in seconds): a new reason at once, the same one again after `AGAIN_S`."""
        if reason == self._reason and now_s < self._again_s:
            return False
        self._reason, self._again_s = reason, now_s + AGAIN_S
        return True

    def reset(self) -> None:
        """The state is over: log it at once if it begins again."""
        self._reason = None
