"""Redis as a keeper sees it: each call does a bounded amount, and says what is left."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class PollResult:
    """What there is to do. Moments are in ms of Redis's clock, infinite where there is none."""

    leads: bool  # whether the keeper that asked is the one that acts
    leases: dict[str, int]  # until when the lease of each supervisor holds, ms
    due_ms: float  # the first task to be queued
    expires_ms: float  # the first one to be ended since nobody has started it
    removal_ms: float  # the first one to be removed
    cancels: int  # tasks that were to be cancelled while they ran
    refusal: str | None = None  # why the keeper must not touch these data: it never leads then


@dataclass(frozen=True, slots=True)
class RescueResult:
    """What became of a silent supervisor's runs. `is_over`: it has none left and is forgotten, or it came back."""

    released: int = 0
    failed: int = 0
    cancelled: int = 0
    is_over: bool = True


@dataclass(slots=True)
class AuditResult:
    """One look. `cursor` leads on, None after the last; `repaired` counts by what was wrong."""

    cursor: Any
    checked: int = 0
    repaired: Counter[str] = field(default_factory=Counter)


class KeeperBroker(Protocol):
    """Each method may raise `BrokerError`. A `limit` is a number of tasks."""

    def now_ms(self) -> int:
        """Redis's time, by what is known of it."""

    def poll(self, keeper: str, until_ms: int) -> PollResult:
        """Ask to be the keeper that acts until then, if no other is; with a moment that is over, stand down."""

    def leases(self) -> dict[str, int]:
        """Until when the lease of each supervisor holds, ms."""

    def expire_lease(self, supervisor: str, seen_ms: int | None = None) -> bool:
        """End a lease: its supervisor is known to be gone, or has not renewed it for so long.

        With `seen_ms`, only if that is its end still; False if it was renewed or given up meanwhile.
        """

    def rescue(self, supervisor: str, limit: int) -> RescueResult:
        """Take some runs of a silent supervisor away from it; forget it when it has none left."""

    def reapply_cancel_requests(self, cursor: Any = None) -> tuple[int, Any]:
        """Ask anew for the end of some runs that were to be cancelled; how many are over, and where to go on."""

    def promote(self, limit: int) -> tuple[int, int | None]:
        """Queue some tasks that are due; return how many, and when the next one is, ms."""

    def expire(self, limit: int) -> tuple[int, int | None]:
        """End some tasks that nobody started in time; return how many, and when the next one expires, ms."""

    def sweep(self, limit: int) -> tuple[int, int | None]:
        """Remove some tasks that were kept long enough; return how many, and when the next one has been, ms."""

    def audit(self, cursor: Any = None) -> AuditResult:
        """Look at some of everything for what is in no place or in a wrong one, and put it right."""

    def rename_misplaced(self) -> int:
        """Rename the keys that something else was written to; return how many."""
