"""What goes on for as long as Redis is away or full is written to the log at once, and then once a minute."""

AGAIN_S = 60.0


class LogThrottle:
    """`should_log` says whether to write it down; another reason is news at once."""

    def __init__(self) -> None:
        self._reason: str | None = None
        self._again_s = 0.0

    def should_log(self, reason: str, now_s: float) -> bool:
        if reason == self._reason and now_s < self._again_s:
            return False
        self._reason, self._again_s = reason, now_s + AGAIN_S
        return True

    def reset(self) -> None:
        """Should it happen again, that will be news."""
        self._reason = None
