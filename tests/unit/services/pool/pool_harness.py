"""A pool without processes and without Redis: every part of it is real but the host and the broker, which only note
what they are asked for. The clock stands until it is moved."""

from collections import deque
from typing import Any

from engine.adapters.clock import RedisClock
from engine.core.pool.actions import Preempt
from engine.core.pool.deadlines import Timing
from engine.core.pool.dispatch import Dispatch
from engine.core.pool.window import Windows
from engine.core.task.policy import RunPolicy
from engine.core.task.record import Record
from engine.core.tree.restart import RestartBudget
from engine.ports.host import Booted, Exited, Replied, ServerReady
from engine.ports.supervisor_broker import Settlement, Stepped
from engine.services.pool.pool_terms import PoolTerms
from engine.services.pool.step_pipeline import BEAT_S
from engine.services.pool.supervisor import Pool, Surroundings

LEASE_S, MARGIN_S = 15.0, 2.0
HANDLERS = [{"name": "t"}, {"name": "noop"}]
RECORD = Record("t", "q", 1, 1, b"{}").encode()
A, B = b"0" * 18 + b"A", b"0" * 18 + b"B"


class NotedHost:
    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.happened: list[Any] = []

    def __getattr__(self, verb: str) -> Any:
        return lambda *args: self.asked.append((verb, *args))

    def take_back(self, slot: int) -> list[bytes]:
        return []

    def next_deadline_s(self) -> float | None:
        return None

    def events(self) -> list[Any]:
        happened, self.happened = self.happened, []
        return happened

    def verbs(self, *wanted: str) -> list[tuple[Any, ...]]:
        return [asked for asked in self.asked if asked[0] in wanted]


class NotedBroker:
    up = True

    def __init__(self) -> None:
        self.steps: deque[tuple[list[Settlement], int]] = deque()
        self.wants: list[tuple[int, int | None, int]] = []
        self.syncs: list[list[tuple[bytes, int]]] = []
        self.happened: list[Any] = []
        self.last_command = b""
        self.announced: list[list[dict[str, Any]]] = []

    def step(self, settlements: list[Settlement], want: int, idle_workers: int | None, held: int, report: bytes,
             preempt: Preempt = Preempt.NEVER, last_command: bytes = b"") -> None:
        self.steps.append((settlements, want))
        self.wants.append((want, idle_workers, held))
        self.last_command = last_command

    def sync_held_runs(self, known: list[tuple[bytes, int]]) -> None:
        self.syncs.append(known)

    def register(self, handlers: list[dict[str, Any]]) -> None:
        self.announced.append(handlers)

    def next_deadline_s(self) -> float:
        return float("inf")

    def __getattr__(self, verb: str) -> Any:
        return lambda *args: None

    def events(self) -> list[Any]:
        happened, self.happened = self.happened, []
        return happened


class NotedPoller:
    waited_s = 0.0

    def wait(self, timeout_s: float) -> int:
        self.waited_s = timeout_s
        return 0


class PoolHarness:
    """A pool of two workers that are up. `turn` plays one round; `answer` is Redis's answer to the step under way."""

    def __init__(self, *, fences: bool = True, settle_max: int = 256, needs_handlers: bool = False) -> None:
        """With `needs_handlers` a module cannot be imported, and nothing is up yet."""
        self.now_s = 1000.0
        self.told: list[dict[str, Any]] = []  # to the root
        self.host, self.broker, self.poller = NotedHost(), NotedBroker(), NotedPoller()
        core = Dispatch(2, RestartBudget(5, 30.0), Windows(1), Timing(), lambda: 0.5)
        terms = PoolTerms("sup", "default", (), RunPolicy(), lease_s=LEASE_S, fence_margin_s=MARGIN_S, fences=fences,
                          settle_max=settle_max, needs_handlers=needs_handlers)
        self.pool = Pool(terms, core, Surroundings(self.host, self.broker, self.poller, RedisClock(), self.told.append,
                                                   monotonic_s=lambda: self.now_s))
        if needs_handlers:
            self.host.happened = [ServerReady(HANDLERS[:1], {"tasks": "a traceback"})]
            self.turn()
            return
        self.host.happened = [ServerReady(HANDLERS, {})]
        self.turn()
        self.host.happened = [Booted(0, 100), Booted(1, 101)]
        self.turn()
        self.answer()

    def turn(self, after_s: float = 0.01) -> None:
        self.now_s += after_s
        self.pool.turn(1.0)

    def answer(self, *claimed: bytes, held: int | None = None, sent_s: float | None = None,
               commands: tuple[bytes, ...] = (), types: int | None = None) -> None:
        """Answer the step under way, or the next one; by default Redis believes what the pool does."""
        while not self.pool.pipeline.is_under_way:
            self.turn(after_s=BEAT_S)
        self.broker.steps.clear()
        if held is None:
            held = len(claimed) // 3 + len(self.pool.core.runs) + len(self.pool.pipeline.outbox)
        self.broker.happened.append(Stepped([], list(claimed), False, list(commands), held,
                                            self.now_s if sent_s is None else sent_s,
                                            len(self.pool.reconciler.handlers) if types is None else types))
        self.turn()

    def reply(self, slot: int, verdict: bytes = b"C", outcome: bytes = b"{}") -> Replied:
        token = self.pool.core.slots[slot].runs[0].token
        return Replied(slot, token, verdict, 100, outcome)

    def exit(self, slot: int, signal: str = "SIGKILL") -> Exited:
        return Exited(slot, 100 + slot, None, signal, {}, None)

    def settled(self) -> list[Settlement]:
        """What has been told to Redis, and what is to be."""
        return [one for settlements, _ in self.broker.steps for one in settlements] + list(self.pool.pipeline.outbox)


