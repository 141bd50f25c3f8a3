"""The way to Redis. Each connection keeps its order; between connections there is none, and each may be cut.

What a cut connection carried is lost, or reaches Redis all the same: late, in its order, with nobody to answer to.
"""

from collections import Counter, deque
from collections.abc import Callable
from random import Random
from typing import Any

import orjson

from engine.core.pool.commands import Preempt
from engine.errors import BrokerUnavailable
from engine.ports.keeper_broker import AuditResult
from engine.ports.supervisor_broker import (
    BrokerEvent,
    Handed,
    HeldRunsSynced,
    Joined,
    Parted,
    Refused,
    RegistrationRefused,
    Settlement,
    Stepped,
    Woken,
)
from tests.world.clock import HostTime, RedisTime, Timeline, WorldClock
from tests.world.store import QUEUE, Polled, Rescued, Store

TIMEOUT_S = 6.0  # of an answer; below the lease as in the real link
LATE_S_MAX = 20.0  # by which a cut connection's words may reach Redis


class Net:
    """Redis and the ways to it. `clumsiness` is how slow and uneven everything is."""

    def __init__(self, timeline: Timeline, chance: Random, store: Store, clumsiness: float) -> None:
        self.timeline, self.chance, self.store, self.clumsiness = timeline, chance, store, clumsiness
        self.redis_ms = RedisTime(timeline)
        self.silent_until_s = 0.0  # Redis is stopped: it neither reads nor answers
        self.down_until_s = 0.0  # it is not there
        self.full_until_s = 0.0  # it refuses what may grow
        self.loading_until_s = 0.0  # it refuses everything
        self.apart_until_s: dict[str, float] = {}  # host -> until when nothing passes
        self.wires: dict[str, Wire] = {}  # supervisor -> its open connection
        self.keepers: list[Callable[[], None]] = []
        store.ring, store.ring_keeper = self._ring, self._ring_keepers

    def delay_s(self) -> float:
        return self.chance.uniform(0, 0.001) if self.chance.random() < 0.9 else self.chance.uniform(0, self.clumsiness)

    def free_s(self, host: str) -> float:
        """When something that this host says now would be heard."""
        return max(self.timeline.now_s, self.silent_until_s, self.apart_until_s.get(host, 0.0))

    @property
    def is_down(self) -> bool:
        return self.timeline.now_s < self.down_until_s

    @property
    def is_full(self) -> bool:
        return self.timeline.now_s < self.full_until_s

    @property
    def is_loading(self) -> bool:
        return self.timeline.now_s < self.loading_until_s

    @property
    def takes_writes(self) -> bool:
        return not (self.is_down or self.is_full or self.is_loading)

    def restart(self, for_s: float) -> None:
        self.down_until_s = self.timeline.now_s + for_s
        for wire in list(self.wires.values()):
            wire.cut("Redis was restarted", late=False)

    def heal(self) -> None:
        self.silent_until_s = self.down_until_s = self.full_until_s = self.loading_until_s = 0.0
        self.apart_until_s.clear()

    def _ring(self, supervisor: str, message: str | Handed) -> int:
        wire = self.wires.get(supervisor)
        if wire is None:
            return 0
        wire.answer(message if isinstance(message, Handed) else Woken())
        return 1

    def _ring_keepers(self) -> None:
        for wake in self.keepers:
            self.timeline.after(self.delay_s(), wake)


class Wire:
    """One connection of a supervisor."""

    def __init__(self, net: Net, host: str, broker: "WorldBroker") -> None:
        self.net, self.host, self.broker = net, host, broker
        self.is_cut = False
        self.late = False
        self.unanswered: list[tuple[float, list[Settlement]]] = []
        self._sent_s = self._answered_s = 0.0
        self._there: deque[Callable[[], BrokerEvent | None]] = deque()  # on their way, in the order in which they go
        self._back: deque[tuple[BrokerEvent | None, bool]] = deque()
        net.wires[broker.supervisor] = self

    def send(self, settlements: list[Settlement], do: Callable[[], BrokerEvent | None]) -> None:
        self.unanswered.append((self.net.timeline.now_s, settlements))
        self._sent_s = max(self._sent_s + 1e-9, self.net.timeline.now_s + self.net.delay_s())
        self._there.append(do)
        self.net.timeline.at(self._sent_s, self._arrive)

    def answer(self, event: BrokerEvent | None, *, is_reply: bool = False) -> None:
        self._answered_s = max(self._answered_s + 1e-9, self.net.timeline.now_s + self.net.delay_s())
        self._back.append((event, is_reply))
        self.net.timeline.at(self._answered_s, self._come_back)

    def cut(self, reason: str, *, late: bool | None = None) -> None:
        """Break it; the supervisor hears of it at once."""
        if self.is_cut:
            return
        self.is_cut, self.late = True, self.net.chance.random() < 0.5 if late is None else late
        if self.net.wires.get(self.broker.supervisor) is self:
            del self.net.wires[self.broker.supervisor]
        unsettled = [one for _, settlements in self.unanswered for one in settlements]
        self.broker.parted(Parted(reason, unsettled))

    def _arrive(self) -> None:
        """Redis takes the first that is on its way; later, while nothing gets through."""
        net = self.net
        if self.is_cut:
            if not self.late:
                return
            if net.chance.random() < 0.5:  # the first waits, and those behind it with it
                self._sent_s = max(self._sent_s, net.timeline.now_s) + 1e-9
        free_s = net.free_s(self.host)
        if free_s > net.timeline.now_s or net.is_down:
            net.timeline.at(max(free_s, net.down_until_s), self._arrive)
            return
        event = self._there.popleft()()
        if not self.is_cut:
            self.answer(event, is_reply=True)

    def _come_back(self) -> None:
        free_s = self.net.free_s(self.host)
        if self.is_cut:
            return
        if free_s > self.net.timeline.now_s:
            self.net.timeline.at(free_s, self._come_back)
            return
        event, is_reply = self._back.popleft()
        if is_reply:
            self.unanswered.pop(0)
        if event is not None:
            self.broker.heard(event)


class WorldBroker:
    """Fulfils `ports.SupervisorBroker` over one wire at a time, as `RedisSupervisorBroker` does over a link."""

    def __init__(self, net: Net, supervisor: str, host: str, host_s: HostTime, clock: WorldClock, lease_s: float,
                 wake: Callable[[], None], identity: dict[str, Any]) -> None:
        self.net, self.supervisor, self.host, self.host_s = net, supervisor, host, host_s
        self.clock, self.lease_s, self.wake, self.identity = clock, lease_s, wake, identity
        self.wire: Wire | None = None
        self.has_left = False
        self.is_closed = False
        self._happened: list[BrokerEvent] = []
        self._pause_s = 0.05
        self._syncs = 0
        net.timeline.after(net.delay_s(), self._connect)

    @property
    def up(self) -> bool:
        return self.wire is not None

    def step(self, settlements: list[Settlement], want: int, idle_workers: int | None, held: int, report: bytes,
             preempt: Preempt = Preempt.NEVER, last_command: bytes = b"") -> None:
        now_ms, sent_s, lease_ms = self.clock.now_ms(), self.host_s(), int(self.lease_s * 1000)
        if report:  # the process that all of this happens in is not the one that it tells of
            report = orjson.dumps(_told_by(orjson.loads(report), self.identity))

        def do() -> BrokerEvent:
            if self.net.is_loading:
                return Refused("LOADING", settlements)
            refused, claimed, commands, now_held = self.net.store.step(
                self.supervisor, settlements, want, idle_workers, held, report, now_ms, now_ms + lease_ms, last_command)
            return Stepped(refused, claimed, len(claimed) >= 3 * want, commands, now_held, sent_s,
                           len(self.net.store.types.get(self.supervisor, ())))

        self._send(settlements, do)

    def sync_held_runs(self, known: list[tuple[bytes, int]]) -> None:
        self._syncs += 1
        now_ms, nth = self.clock.now_ms(), self._syncs

        def do() -> BrokerEvent | None:
            if self.net.is_loading:
                return RegistrationRefused("LOADING", of_runs=True)
            return HeldRunsSynced(self.net.store.sync_held_runs(self.supervisor, known, now_ms, nth))

        self._send([], do)

    def farewell(self) -> None:
        def do() -> None:
            if not self.net.is_loading:
                self.net.store.farewell(self.supervisor)
            self.has_left = True

        self._send([], do)

    def announce(self, handlers: list[dict[str, Any]]) -> None:
        def do() -> BrokerEvent:
            if self.net.is_loading:
                return RegistrationRefused("LOADING", of_runs=False)
            self.net.store.introduce(self.supervisor, frozenset(one["name"] for one in handlers))
            return Woken()

        self._send([], do)

    def log(self, task_id: bytes, rows: list[bytes]) -> None: ...
    def progress(self, task_id: bytes, body: bytes) -> None: ...

    def events(self) -> list[BrokerEvent]:
        happened, self._happened = self._happened, []
        return happened

    def next_deadline_s(self) -> float:
        if self.wire is None or not self.wire.unanswered:
            return float("inf")
        return self.wire.unanswered[0][0] + TIMEOUT_S + self.host_s.began_s

    def tick(self, now_s: float) -> None:
        if self.wire is not None and now_s >= self.next_deadline_s():
            self.wire.cut("no answer")
        if self.clock.is_stale and self.wire is not None:
            self.clock.set_by(self.net.redis_ms())

    def close(self) -> None:
        self.is_closed = True
        if self.wire is not None:
            self.wire.cut("closed")

    # -- what the wire says ---------------------------------------------------------------------------------------

    def heard(self, event: BrokerEvent) -> None:
        self._happened.append(event)
        self.wake()

    def parted(self, event: Parted) -> None:
        self.wire = None
        self.heard(event)
        if not self.is_closed:
            self.net.timeline.after(self._pause_s, self._connect)

    def _connect(self) -> None:
        net = self.net
        if self.is_closed:
            return
        if net.is_down or net.free_s(self.host) > net.timeline.now_s:
            self._pause_s = min(1.0, self._pause_s * 2)
            net.timeline.after(self._pause_s, self._connect)
            return
        self._pause_s = 0.05
        self.wire = Wire(net, self.host, self)
        self.clock.set_by(net.redis_ms())
        self.heard(Joined())

    def _send(self, settlements: list[Settlement], do: Callable[[], BrokerEvent | None]) -> None:
        if self.wire is None:
            self._happened.append(Parted("not connected", settlements))
        else:
            self.wire.send(settlements, do)


def _told_by(report: dict[str, Any], identity: dict[str, Any]) -> dict[str, Any]:
    return {**report, "identity": {**identity, "below": report["identity"]["below"]}}


class Killed(Exception):
    """The process that made the call was killed meanwhile."""


class WorldKeeperBroker:
    """What `Rounds` asks of Redis. Each call waits, and the world goes on meanwhile."""

    def __init__(self, net: Net, host: str, clock: WorldClock, is_dead: Callable[[], bool],
                 thaws_s: Callable[[], float]) -> None:
        self.net, self.host, self.clock, self.is_dead, self.thaws_s = net, host, clock, is_dead, thaws_s
        self.calls = 0

    def now_ms(self) -> int:
        if self.clock.is_stale:
            self._call(lambda: self.clock.set_by(self.net.redis_ms()))
        return self.clock.now_ms()

    def poll(self, keeper: str, until_ms: int) -> Polled:
        return self._call(lambda: self.net.store.poll(keeper, until_ms, self.clock.now_ms()))

    def insist(self, cursor: Any = None) -> tuple[int, Any]:
        now_ms = self.now_ms()
        return self._call(lambda: self.net.store.insist(now_ms)), None

    def promote(self, limit: int) -> tuple[int, int | None]:
        now_ms = self.now_ms()
        return self._call(lambda: self.net.store.promote(now_ms)), None

    def expire(self, limit: int) -> tuple[int, int | None]:
        now_ms = self.now_ms()
        return self._call(lambda: self.net.store.expire(now_ms)), None

    def sweep(self, limit: int) -> tuple[int, int | None]:
        return 0, None

    def reports(self) -> list[bytes]:
        return self._call(lambda: list(self.net.store.reports.values()))

    def lapse(self, supervisor: str, seen_ms: int | None = None) -> bool:
        return bool(self._call(lambda: self.net.store.lapse(supervisor, seen_ms)))

    def rescue(self, supervisor: str, limit: int) -> Rescued:
        now_ms = self.now_ms()
        return self._call(lambda: self.net.store.rescue(supervisor, now_ms))

    def set_apart(self) -> int:
        return 0  # nobody else writes to this Redis

    def reconcile(self, cursor: Any = None) -> AuditResult:
        """Dates anew what is ahead. Anything else that the real one would mend, the ledger forbids."""
        now_ms = self.now_ms()
        return self._call(lambda: AuditResult(None, mended=Counter(ahead=self.net.store.redate(now_ms))))

    def _call(self, do: Callable[[], Any]) -> Any:
        """There, done, and back; or not."""
        net = self.net
        self.calls += 1
        self._wait(net.timeline.now_s + net.delay_s())
        gives_up_s = net.timeline.now_s + TIMEOUT_S
        if net.is_down:
            raise BrokerUnavailable("not there")
        while (free_s := net.free_s(self.host)) > net.timeline.now_s:
            self._wait(min(free_s, gives_up_s))
            if net.timeline.now_s >= gives_up_s:
                raise BrokerUnavailable("no answer")
        if net.is_loading:
            raise BrokerUnavailable("LOADING")
        result = do()
        self._wait(net.timeline.now_s + net.delay_s())
        if net.is_down or net.free_s(self.host) > net.timeline.now_s:
            raise BrokerUnavailable("the answer was lost")
        return result

    def _wait(self, moment_s: float) -> None:
        self.net.timeline.run_until(moment_s)
        while not self.is_dead() and self.thaws_s() > self.net.timeline.now_s:
            self.net.timeline.run_until(self.thaws_s())
        if self.is_dead():
            raise Killed


__all__ = ["QUEUE", "Killed", "Net", "Wire", "WorldBroker", "WorldKeeperBroker"]
