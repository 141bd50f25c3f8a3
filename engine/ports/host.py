"""The process side of a pool: a fork server, the workers forked from it, and the pipes to them.

The host decides nothing about tasks. It reports what happened as events, in the order in which it happened, and
promises:

1. each `spawn` is answered by exactly one `Exited`, whatever happens between;
2. `Exited` comes when the worker and everything it ever started are gone, and after every reply that the worker had
   written before it died;
3. no method blocks, except `start` and `stop`;
4. a request to a worker that has exited meanwhile changes nothing: its `Exited` is on its way.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from engine.core.task.limits import Limits
from engine.core.task.outcome import Cause
from engine.core.worker import frames
from engine.core.worker.start_method import Starting


@dataclass(frozen=True, slots=True)
class HostSettings:
    """What the fork server and its workers need to know, given once."""

    supervisor: str  # "<supervisor>/<slot>" names a worker in its outcomes
    pool: str = "default"  # for process titles
    modules: tuple[str, ...] = ()  # handler modules to import
    main: dict[str, str] | None = None  # {"path": …} or {"module": …}: a script whose functions are handlers
    functions: dict[str, str] = field(default_factory=dict)  # handler name -> "module:function"
    sys_path: tuple[str, ...] = ()  # where to import from; empty: as this process does
    environment: dict[str, str] = field(default_factory=dict)  # added to this process's own
    starting: Starting = field(default_factory=Starting)  # how workers come to be
    others: tuple[Starting, ...] = ()  # how those of the engine's other pools do
    threads: int = 1  # of BLAS and OpenMP in each worker
    shares: tuple[tuple[int, ...], ...] = ()  # cores that workers are held to, see `core/shares`; empty: to none
    payload_bytes_max: int = 1_048_576
    result_bytes_max: int = 1_048_576
    log_bytes_max: int = 262_144  # of one run
    growth_bytes_max: int = 0  # of a worker since its start, until `Grown` is reported; 0: never
    dump_s: float = 0.3  # how long a kill waits for the stacks at most
    stop_s: float = 5.0  # what a worker may take to end in good order
    task_timeout: float = 0.0  # of handlers and tasks that name none; 0 = none. Only told to handlers


class Replied(NamedTuple):
    """A run ended in its worker. `verdict` is one of `core.worker.frames.VERDICTS`."""

    slot: int
    token: int
    verdict: bytes
    wall_us: int
    outcome: bytes  # JSON, as it is to be stored


@dataclass(slots=True)
class ServerReady:
    handlers: list[dict[str, Any]]  # announcements
    failures: dict[str, str]  # module -> traceback of its import
    inherited: dict[str, Any] = field(default_factory=dict)  # what a fork does not carry over: see core/inheritance


@dataclass(slots=True)
class ServerLost:
    """The fork server is gone, and so are all its workers, whose `Exited` came before. `start` begins anew."""

    reason: str


@dataclass(slots=True)
class Booted:
    slot: int
    pid: int


@dataclass(slots=True)
class Progressed:
    slot: int
    token: int
    body: bytes  # JSON {"fraction","message","at_ms"}


@dataclass(slots=True)
class Waits:
    """Whether a worker's run waits for other tasks."""

    slot: int
    does: bool


@dataclass(slots=True)
class Logged:
    slot: int
    token: int
    row: bytes  # JSON {"at_ms","run","stream","level","text"}


@dataclass(slots=True)
class Spilled:
    """Output that bypassed Python (C code, children of a handler). It belongs to the run at the head of the window."""

    slot: int
    text: str
    dropped_bytes: int  # what was thrown away since the last Spilled, beyond log_bytes_max of one run
    stream: str = "stdout"  # or "stderr"


@dataclass(slots=True)
class Dumped:
    """The answer to `dump`: the Python stacks of a worker that lives on; empty when it could not answer in time."""

    slot: int
    text: str


@dataclass(slots=True)
class Grown:
    """Between two runs, a worker holds more memory than `growth_bytes_max` above what it began with."""

    slot: int
    bytes: int  # above that


@dataclass(slots=True)
class HookFailed:
    """A hook of the user's raised in a worker, at its start (then `Exited` follows, not `Booted`) or its end."""

    slot: int
    at_start: bool
    hook: str  # "module:function"; empty where several together took too long
    message: str
    traceback: str


@dataclass(slots=True)
class Exceeded:
    """A worker has passed one of the limits that it is held to. It goes on until it is killed."""

    slot: int
    limits: Limits
    cause: Cause
    message: str  # with the figures


@dataclass(slots=True)
class Exited:
    """A worker and all its descendants are gone. Exactly one of `exitcode` and `signal` is set, neither if unknown."""

    slot: int
    pid: int
    exitcode: int | None
    signal: str | None  # "SIGKILL"
    usage: dict[str, Any]  # {"cpu_s", "peak_rss_bytes"} since the moment "since_s" (monotonic), where its run began
    post_mortem: dict[str, Any] | None  # {"why","stacks","signal","sender","proc"}; None after `quit`
    unread: list[bytes] = field(default_factory=list)  # messages that it never began to read, oldest first
    stranded: bool = False  # it went down with the fork server
    oom: str | None = None  # how it is known that the kernel's OOM killer ended it, if it did
    output: Callable[[int], str] = lambda token: ""  # the last output of the run with this token
    progress: Callable[[int], bytes | None] = lambda token: None  # what that run said last of how far it is, JSON
    refused: bool = False  # the host had no process or descriptor to give for it just now: there never was one


Event = (Replied | ServerReady | ServerLost | Booted | Progressed | Logged | Spilled | Dumped | Grown | HookFailed |
         Waits | Exceeded | Exited)


class Host(Protocol):
    def start(self) -> None:
        """Start the fork server; `ServerReady` follows."""

    def stop(self) -> None:
        """End everything below and reap it; blocks for some milliseconds, 2 s at the very most."""

    def spawn(self, slot: int) -> None:
        """Fork a worker; `Booted` follows. It may be sent tasks at once."""

    def send(self, slot: int, message: bytes) -> None:
        """Pass a message of `core.frames` on. What the worker can't take yet is kept and sent later."""

    def watch(self, slot: int, limits: Limits) -> None:
        """Hold what runs next in the slot to these limits, until `unwatch` or its end; `Exceeded` may follow."""

    def unwatch(self, slot: int) -> None: ...

    def take_back(self, slot: int) -> list[bytes]:
        """Return the messages that the worker has not begun to read, oldest first; it will never see them."""

    def interrupt(self, slot: int, token: int, reason: frames.InterruptReason) -> None:
        """Raise SoftTimeout or TaskInterrupted in the run `token`, if its code is running."""

    def suspend(self, slot: int) -> None:
        """Stop the worker and everything below it, without harm, until `resume`. It can be killed meanwhile."""

    def resume(self, slot: int, token: int | None, suspended_s: float) -> None:
        """Let them go on; the run `token`, None for none, is told for how many seconds it was suspended."""

    def memory_bytes(self, slot: int) -> int:
        """What the worker and everything below it hold that nobody else does; what they share is counted for each."""

    def quit(self, slot: int) -> None:
        """Let the worker end when it has done what it was sent."""

    def kill(self, slot: int, why: str) -> None:
        """Take the stacks, then end the worker and everything below it. Repeated calls change nothing."""

    def dump(self, slot: int) -> None:
        """Ask for the stacks of a live run; `Dumped` follows."""

    def pid(self, slot: int) -> int | None: ...

    def processes(self) -> list[tuple[int, int]]:
        """The fork server and the workers: each by its number and its birth, in clock ticks since boot."""

    def next_deadline_s(self) -> float | None:
        """The moment (time.monotonic) at which `tick` wants to be called, if any."""

    def tick(self, now_s: float) -> None: ...

    def events(self) -> list[Event]:
        """What has happened since the last call."""
