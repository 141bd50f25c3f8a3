"""Deadlines of the host's own, few and short: kept so that having none costs nothing."""

from collections.abc import Callable

Action = Callable[[float], None]


class Timers:
    """Actions with the moment (time.monotonic) at which each is due."""

    __slots__ = ("_due",)

    def __init__(self) -> None:
        self._due: dict[Action, float] = {}

    def set(self, action: Action, at_s: float | None) -> None:
        """Call `action(now_s)` at `at_s` and not at the time set before; None: not at all."""
        if at_s is None:
            self._due.pop(action, None)
        else:
            self._due[action] = at_s

    def next_s(self) -> float | None:
        """The moment of the next action, None if there is none."""
        return min(self._due.values()) if self._due else None

    def run_due(self, now_s: float) -> None:
        """Do what is due. An action that is to be done again sets itself anew."""
        if self._due:
            for action in [action for action, at_s in self._due.items() if at_s <= now_s]:
                del self._due[action]
                action(now_s)
