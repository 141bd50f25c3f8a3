"""What a keeper that leads does by the clock: each duty in small portions, each with a time of its own in every round.

So none of them starves the others, however much there is of it: what is left of one is taken up in the next round.
"""

from collections.abc import Callable, Iterable
from typing import Any, Protocol

BATCH = 500
SLICE_S = 0.1  # of one duty in one round


class Broker(Protocol):
    """What the duties need of Redis; `engine.adapters.redis.keeper.keeping` says what each does."""

    def insist(self, cursor: Any = None) -> tuple[int, Any]: ...
    def promote(self, limit: int) -> tuple[int, int | None]: ...
    def expire(self, limit: int) -> tuple[int, int | None]: ...
    def sweep(self, limit: int) -> tuple[int, int | None]: ...


class Duty:
    """`portion` does a bounded amount; True: there is more of it."""

    def __init__(self, portion: Callable[[], bool], slice_s: float = SLICE_S) -> None:
        self._portion, self._slice_s = portion, slice_s

    def go(self, monotonic_s: Callable[[], float]) -> bool:
        """Do it for as long as there is something to do, or its time is over; True: there is more."""
        until_s = monotonic_s() + self._slice_s
        while self._portion():
            if monotonic_s() >= until_s:
                return True
        return False


class Duties:
    """What is due by what was seen in Redis, in the order of how much it matters."""

    def __init__(self, broker: Broker, monotonic_s: Callable[[], float]) -> None:
        self._monotonic_s = monotonic_s
        self._broker = broker
        self._cursor: Any = None  # how far it has come with those that are to be cancelled
        self.cancels = Duty(self._insist)
        self.due = Duty(_batches(broker.promote))
        self.expiries = Duty(_batches(broker.expire))
        self.removals = Duty(_batches(broker.sweep))

    def go(self, duties: Iterable[Duty]) -> bool:
        """Do them, each for its time; True: there is more of one."""
        left = [duty for duty in duties if duty.go(self._monotonic_s)]
        return bool(left)

    def _insist(self) -> bool:
        _, self._cursor = self._broker.insist(self._cursor)
        return self._cursor is not None


def _batches(verb: Callable[[int], tuple[int, int | None]]) -> Callable[[], bool]:
    return lambda: verb(BATCH)[0] >= BATCH
