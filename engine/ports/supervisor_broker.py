"""Redis as a pool's supervisor sees it: no call waits, and what happened comes as events."""

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from engine.core.pool.actions import Preempt


class Settlement(NamedTuple):
    """The end of one run, for Redis."""

    task_id: bytes
    run: int
    verdict: str  # `Verdict.wire_code`, such as "retry attempt"
    at: int | str  # due moment of a retry, "queue" or "queue type" of a release, else moment of removal; moments in ms
    outcome: bytes  # JSON; empty for a release


@dataclass(slots=True)
class Joined:
    """Redis is there, and its clock is known."""


@dataclass(slots=True)
class Parted:
    """Redis is away. `unsettled` were on their way when it went; sending them again does no harm."""

    reason: str
    unsettled: list[Settlement]


@dataclass(slots=True)
class Stepped:
    """A step is done: `refused` are words by position, `claimed` is flat: id, record, counters, … as Redis gave it."""

    refused: list[tuple[Settlement, str]]
    claimed: list[Any]
    granted_all: bool  # as many as were wanted
    commands: list[bytes]  # JSON; each comes again until a step has named it or a later one as its `last_command`
    held: int  # how many runs Redis thinks that this supervisor has
    sent_s: float
    types_known: int = 0  # how many types Redis thinks that it can run; it is given no others


@dataclass(slots=True)
class Refused:
    """Redis answered a step with an error; it has changed nothing."""

    reason: str
    unsettled: list[Settlement]


@dataclass(slots=True)
class Woken:
    """A wakeup came: there is work, or a command."""


@dataclass(slots=True)
class Handed:
    """A task that came with the wakeup: its first run is ours, for a worker that had nothing to do."""

    task_id: bytes
    record: bytes


@dataclass(slots=True)
class HeldRunsSynced:
    """What Redis and the supervisor believe has been brought together. `foreign` are ids that are not ours any more."""

    foreign: list[bytes]


@dataclass(slots=True)
class RegistrationRefused:
    """Redis refused `sync_held_runs` or `announce`. It has changed nothing; the call is to be repeated."""

    reason: str
    of_runs: bool  # else of handlers


@dataclass(slots=True)
class Waited:
    """The answer to `ask_waits`: for how long the task has waited that waits the longest at the head of a line."""

    wait_s: float


BrokerEvent = Joined | Parted | Stepped | Refused | Woken | Handed | HeldRunsSynced | RegistrationRefused | Waited


class SupervisorBroker(Protocol):
    """Redis as a supervisor sees it: nothing waits, what happened comes as events."""

    @property
    def up(self) -> bool:
        """Whether Redis can be spoken to now."""

    def step(self, settlements: list[Settlement], want: int, idle_workers: int | None, held: int, report: bytes,
             preempt: Preempt = Preempt.NEVER, last_command: bytes = b"") -> None:
        """Settle, claim up to `want` runs, renew the lease; `Stepped`, `Refused` or `Parted` follows. One at a time.

        `idle_workers`: workers that have nothing to do. New tasks are handed to them as they come, where nothing is to
        be claimed. None: as many as the step before it has said.
        `held`: how many runs the supervisor has, by what it knows.
        `report`: JSON for people, empty if there is nothing new to report.
        `preempt`: whether running runs would be suspended for urgent ones; with `NOW` it wants only urgent ones.
        `last_command`: the last one that the last answer brought: it and those before it do not come again.
        """

    def sync_held_runs(self, known: list[tuple[bytes, int]]) -> None:
        """Bring Redis's list of the runs that we hold in line with ours.

        `HeldRunsSynced`, `RegistrationRefused` or `Parted` follows.
        """

    def ask_waits(self) -> None:
        """How long do the first tasks wait that this supervisor could run? `Waited` follows, or `Parted`."""

    def register(self, handlers: list[dict[str, Any]]) -> None:
        """Say which types this supervisor can run: it is given no others.

        `Woken`, `RegistrationRefused` or `Parted` follows.
        """

    def log(self, task_id: bytes, rows: list[bytes]) -> None: ...
    def progress(self, task_id: bytes, body: bytes) -> None: ...
    def unregister(self) -> None: ...
    def events(self) -> list[BrokerEvent]: ...
    def next_deadline_s(self) -> float: ...
    def tick(self, now_s: float) -> None: ...
    def close(self) -> None: ...
