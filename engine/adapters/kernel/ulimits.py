"""What a tree needs of the limits of its user (`ulimit`): raised where that is possible, else refused with the numbers.

Children inherit what the root has. A limit is raised as far as it is needed and no further: programs that use
`select()` rely on small numbers of descriptors.
"""

import math
import os
import resource
from dataclasses import dataclass

from engine.errors import EngineError

FILES_OF_A_POOL = 32  # it has 11 open; the others are for a moment, such as the ends that a new worker is given
FILES_OF_A_WORKER = 8  # that its pool has open
_FILES_HANDED_OVER = 6  # for each new worker, until the fork server has taken them
_THREADS_OF_A_TREE, _THREADS_OF_A_POOL = 16, 8  # root, keeper and API; pool and fork server


@dataclass(frozen=True, slots=True)
class Need:
    """One limit: `least` is what the tree cannot do without, `wanted` what it may come to use."""

    flag: str  # of ulimit
    what: str
    kind: int
    least: int
    wanted: int
    workers_max: int  # as many as the hard limit allows

    def shortage(self) -> str:
        """What is wrong where the hard limit is too low; else empty."""
        hard = self.limits()[1]
        return "" if self.least <= hard else (
            f"at most {hard} {self.what} are allowed (ulimit -H{self.flag}), and the engine needs {self.least}")

    def remedy(self) -> str:
        fewer = f", or set max_workers to {self.workers_max} or less" if self.workers_max > 0 else ""
        return f"raise the hard limit{fewer}"

    def provide(self) -> None:
        """Raise the soft limit if that is needed. Raises EngineError where the hard one is too low."""
        if shortage := self.shortage():
            raise EngineError(f"{shortage}: {self.remedy()}")
        soft, hard = self.limits()
        if soft < self.wanted:
            resource.setrlimit(self.kind, (int(min(self.wanted, hard)), resource.getrlimit(self.kind)[1]))

    def limits(self) -> tuple[float, float]:
        """The soft and the hard limit of this process; root may have as many processes as it likes."""
        if self.kind == resource.RLIMIT_NPROC and os.geteuid() == 0:
            return math.inf, math.inf
        soft, hard = (math.inf if limit == resource.RLIM_INFINITY else limit for limit in resource.getrlimit(self.kind))
        return soft, hard


def files(workers: int, workers_max: int) -> Need:
    """Descriptors of a pool that starts with `workers` and may come to have `workers_max`."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return Need("n", "open files in a process", resource.RLIMIT_NOFILE, FILES_OF_A_POOL + FILES_OF_A_WORKER * workers,
                FILES_OF_A_POOL + (FILES_OF_A_WORKER + _FILES_HANDED_OVER) * max(workers, workers_max),
                (hard - FILES_OF_A_POOL) // FILES_OF_A_WORKER)


def processes(workers: int, workers_max: int, pools: int = 1) -> Need:
    """Processes and threads of a tree with so many workers in all its pools."""
    hard, own = resource.getrlimit(resource.RLIMIT_NPROC)[1], _THREADS_OF_A_TREE + _THREADS_OF_A_POOL * pools
    return Need("u", "processes and threads", resource.RLIMIT_NPROC, own + workers, own + max(workers, workers_max),
                (hard - own) // pools)


def provide(needs: list[Need]) -> None:
    """Raise every limit that has to be. Raises EngineError for the first that cannot be."""
    for need in needs:
        need.provide()


def has_room(count: int) -> bool:
    """Whether this process may open so many descriptors now."""
    opened: list[int] = []
    try:
        while len(opened) < count:
            opened.append(os.eventfd(0, os.EFD_CLOEXEC))
    except OSError:
        return False
    finally:
        for descriptor in opened:
            os.close(descriptor)
    return True
