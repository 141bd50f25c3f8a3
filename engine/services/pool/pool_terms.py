"""What a pool needs of the settings, as plain numbers."""

from dataclasses import dataclass

from engine.core.pool.resizing import Scale
from engine.core.task.policy import RunPolicy

ANY = Scale(1, 1024)


@dataclass(frozen=True, slots=True)
class PoolTerms:
    supervisor: str
    pool: str
    queues: tuple[str, ...]  # empty: all there are
    policy: RunPolicy  # for handlers and tasks that say nothing
    lease_s: float = 15.0
    fence_margin_s: float = 2.0  # runs are ended so long before the lease lapses
    fences: bool = True  # not on a Unix socket: whoever else could reach that Redis shares its fate
    outcomes_pending_max: int = 10_000
    claim_max: int = 256  # of one step
    settle_max: int = 256  # of one step
    settle_bytes_max: int = 4 << 20  # of one step, unless a single outcome is larger
    grace_s: float = 30.0  # for what runs, when the pool is told to drain
    report_s: float = 1.0
    version: str = ""
    scale: Scale = ANY
    scale_auto: bool = False
    needs_handlers: bool = False  # it starts nothing without them, unless the root says so
    enforcement: str = "sampling"  # what holds the limits of runs, for people
