"""Which cores each worker of a pool is held to, where its slots have cores of their own.

The cores are dealt into as many shares as the pool has slots, at least one core each. A worker gets the share that
fewest others have; when one ends and leaves a share emptier than another by two, a worker moves over.
"""

from collections.abc import Sequence
from itertools import pairwise


def deal(cores: Sequence[int], slots: int) -> tuple[tuple[int, ...], ...]:
    """Shares of nearly equal size: a share for each slot, or for each core if there are fewer cores."""
    count = max(1, min(slots, len(cores)))
    size, rest = divmod(len(cores), count)
    ends = [place * size + min(place, rest) for place in range(count + 1)]
    return tuple(tuple(cores[start:end]) for start, end in pairwise(ends))


class Shares:
    """Which worker has which share; `shares` as `deal` gives them."""

    def __init__(self, shares: Sequence[Sequence[int]]) -> None:
        self._shares = [list(share) for share in shares]
        self._holders: list[list[int]] = [[] for _ in shares]  # of each share, the newest last

    def take(self, holder: int) -> list[int]:
        """The cores of a new worker."""
        place = min(range(len(self._holders)), key=lambda place: len(self._holders[place]))
        self._holders[place].append(holder)
        return self._shares[place]

    def give_back(self, holder: int) -> tuple[int, list[int]] | None:
        """A worker has ended. Return the worker that is to move, with its new cores, if one is."""
        for holders in self._holders:
            if holder in holders:
                holders.remove(holder)
        sizes = [len(holders) for holders in self._holders]
        most, fewest = sizes.index(max(sizes)), sizes.index(min(sizes))
        if sizes[most] - sizes[fewest] < 2:
            return None
        moved = self._holders[most].pop()
        self._holders[fewest].append(moved)
        return moved, self._shares[fewest]
