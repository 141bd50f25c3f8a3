"""The brokers of the simulated processes: the reference model, reached through a network that may fail."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import orjson

from engine.adapters.redis.keeper.audit import AHEAD_MS
from engine.core.pool.actions import Preempt
from engine.core.task.lifecycle import Move
from engine.errors import BrokerUnavailable
from engine.ports.keeper_broker import AuditResult, PollResult, RescueResult
from engine.ports.supervisor_broker import (
    BrokerEvent,
    HeldRunsSynced,
    Joined,
    Parted,
    Refused,
    RegistrationRefused,
        Settlement,
    Stepped,
    Woken,
)
from engine.testing.model.supervisor import RunEnd
from tests.world.clock import HostTime, WorldClock
from tests.world.network import Connection, Network

TIMEOUT_S = 6.0  # of an answer; below the lease as in the real link


class WorldBroker:
    """Fulfils `ports.SupervisorBroker` over one connection at a time, as `RedisSupervisorBroker` does."""

    def __init__(self, net: Network, supervisor: str, host: str, host_s: HostTime, clock: WorldClock, lease_s: float,
                 wake: Callable[[], None], identity: dict[str, Any]) -> None:
        self.net, self.supervisor, self.host, self.host_s = net, supervisor, host, host_s
        self.clock, self.lease_s, self.wake, self.identity = clock, lease_s, wake, identity
        self.connection: Connection | None = None
        self.is_unregistered = False
        self.is_closed = False
        self._happened: list[BrokerEvent] = []
        self._pause_s = 0.05
        self._syncs = 0
        net.timeline.after(net.delay_s(), self._connect)

    @property
    def up(self) -> bool:
        return self.connection is not None

    def step(self, settlements: list[Settlement], want: int, idle_workers: int | None, held: int, report: bytes,
             preempt: Preempt = Preempt.NEVER, last_command: bytes = b"") -> None:
        now_ms, sent_s, lease_ms = self.clock.now_ms(), self.host_s(), int(self.lease_s * 1000)
        if report:  # the process that all of this happens in is not the one that it tells of
            report = orjson.dumps(_told_by(orjson.loads(report), self.identity))

        ends = [RunEnd(one.task_id.decode(), one.run, one.verdict, one.at if isinstance(one.at, int) else 0,
                       one.outcome) for one in settlements]

        def do() -> BrokerEvent:
            if self.net.is_loading:
                return Refused("LOADING", settlements)
            reply = self.net.model.supervisor.step(
                self.supervisor, now_ms, now_ms + lease_ms, ends, want=want, idle_workers=idle_workers, held=held,
                confirmed=last_command, report=report)
            claimed = [part for task in reply.claimed for part in (
                task.id.encode(), task.record.encode(), b"%d %d %d" % task.state[1:4])]
            return Stepped([(settlements[position], word) for position, word in reply.refused], claimed,
                           len(claimed) >= 3 * want, reply.commands, reply.held, sent_s, reply.types_known)

        self._send(settlements, do)

    def sync_held_runs(self, known: list[tuple[bytes, int]]) -> None:
        self._syncs += 1
        now_ms, number = self.clock.now_ms(), self._syncs
        ours = {task_id.decode(): run for task_id, run in known}

        def do() -> BrokerEvent | None:
            if self.net.is_loading:
                return RegistrationRefused("LOADING", of_runs=True)
            foreign = self.net.model.supervisor.sync_held_runs(self.supervisor, ours, now_ms, number)
            return HeldRunsSynced([task_id.encode() for task_id in foreign])

        self._send([], do)

    def unregister(self) -> None:
        def do() -> None:
            if not self.net.is_loading:
                self.net.model.supervisor.leave(self.supervisor)
            self.is_unregistered = True

        self._send([], do)

    def register(self, handlers: list[dict[str, Any]]) -> None:
        def do() -> BrokerEvent:
            if self.net.is_loading:
                return RegistrationRefused("LOADING", of_runs=False)
            self.net.model.supervisor.register(self.supervisor, [one["name"] for one in handlers])
            return Woken()

        self._send([], do)

    def log(self, task_id: bytes, rows: list[bytes]) -> None: ...
    def progress(self, task_id: bytes, body: bytes) -> None: ...

    def events(self) -> list[BrokerEvent]:
        happened, self._happened = self._happened, []
        return happened

    def next_deadline_s(self) -> float:
        if self.connection is None or not self.connection.unanswered:
            return float("inf")
        return self.connection.unanswered[0][0] + TIMEOUT_S + self.host_s.began_s

    def tick(self, now_s: float) -> None:
        if self.connection is not None and now_s >= self.next_deadline_s():
            self.connection.cut("no answer")
        if self.clock.is_stale and self.connection is not None:
            self.clock.set_by(self.net.redis_ms())

    def close(self) -> None:
        self.is_closed = True
        if self.connection is not None:
            self.connection.cut("closed")

    # -- what the connection says ----------------------------------------------------------------------------------

    def heard(self, event: BrokerEvent) -> None:
        self._happened.append(event)
        self.wake()

    def parted(self, event: Parted) -> None:
        self.connection = None
        self.heard(event)
        if not self.is_closed:
            self.net.timeline.after(self._pause_s, self._connect)

    def _connect(self) -> None:
        net = self.net
        if self.is_closed:
            return
        if net.is_down or net.reachable_s(self.host) > net.timeline.now_s:
            self._pause_s = min(1.0, self._pause_s * 2)
            net.timeline.after(self._pause_s, self._connect)
            return
        self._pause_s = 0.05
        self.connection = Connection(net, self.host, self)
        self.clock.set_by(net.redis_ms())
        self.heard(Joined())

    def _send(self, settlements: list[Settlement], do: Callable[[], BrokerEvent | None]) -> None:
        if self.connection is None:
            self._happened.append(Parted("not connected", settlements))
        else:
            self.connection.send(settlements, do)


def _told_by(report: dict[str, Any], identity: dict[str, Any]) -> dict[str, Any]:
    return {**report, "identity": {**identity, "below": report["identity"]["below"]}}


class Killed(Exception):
    """The process that made the call was killed meanwhile."""


class WorldKeeperBroker:
    """Fulfils `ports.KeeperBroker`. Each call blocks, and the world goes on meanwhile."""

    def __init__(self, net: Network, host: str, clock: WorldClock, is_dead: Callable[[], bool],
                 resumes_s: Callable[[], float]) -> None:
        self.net, self.host, self.clock, self.is_dead, self.resumes_s = net, host, clock, is_dead, resumes_s
        self.calls = 0

    def now_ms(self) -> int:
        if self.clock.is_stale:
            self._call(lambda: self.clock.set_by(self.net.redis_ms()))
        return self.clock.now_ms()

    def poll(self, keeper: str, until_ms: int) -> PollResult:
        return self._call(lambda: self._polled(keeper, until_ms, self.clock.now_ms()))

    def _polled(self, keeper: str, until_ms: int, now_ms: int) -> PollResult:
        model, never = self.net.model, float("inf")
        store = model.store
        leases = {name: one.lease_end_ms for name, one in store.supervisors.items() if one.lease_end_ms is not None}
        removals = [moment_ms for ended in store.ended.values() for moment_ms in ended.values()]
        return PollResult(model.keeper.lead(keeper, until_ms, now_ms), leases, min(store.due.values(), default=never),
                      min(store.expiring.values(), default=never), min(removals, default=never),
                      len(store.cancel_requests))

    def reapply_cancel_requests(self, cursor: Any = None) -> tuple[int, Any]:
        now_ms = self.now_ms()
        return self._call(lambda: self.net.model.keeper.reapply_cancel_requests(now_ms)), None

    def promote(self, limit: int) -> tuple[int, int | None]:
        now_ms = self.now_ms()
        return self._call(lambda: self.net.model.keeper.promote(now_ms)), None

    def expire(self, limit: int) -> tuple[int, int | None]:
        now_ms = self.now_ms()
        return self._call(lambda: self.net.model.keeper.expire(now_ms)), None

    def sweep(self, limit: int) -> tuple[int, int | None]:
        return 0, None

    def reports(self) -> list[bytes]:
        return self._call(lambda: [one.report for one in self.net.model.store.supervisors.values() if one.report])

    def expire_lease(self, supervisor: str, seen_ms: int | None = None) -> bool:
        return bool(self._call(lambda: self.net.model.keeper.expire_lease(supervisor, seen_ms)))

    def rescue(self, supervisor: str, limit: int) -> RescueResult:
        now_ms = self.now_ms()
        moves = self._call(lambda: self.net.model.keeper.rescue(supervisor, now_ms))
        return RescueResult(moves[Move.RELEASE], moves[Move.FAIL], moves[Move.CANCEL])

    def rename_misplaced(self) -> int:
        return 0  # nobody else writes to this Redis

    def audit(self, cursor: Any = None) -> AuditResult:
        """Redate the retries that are too far ahead. The ledger forbids everything else that the real one repairs."""
        now_ms = self.now_ms()
        redated = self._call(lambda: self.net.model.keeper.redate(now_ms, AHEAD_MS))
        return AuditResult(None, repaired=Counter(ahead=redated))

    def _call(self, do: Callable[[], Any]) -> Any:
        """Reach Redis, make the call, and bring the answer back; each of the three may fail."""
        net = self.net
        self.calls += 1
        self._wait(net.timeline.now_s + net.delay_s())
        gives_up_s = net.timeline.now_s + TIMEOUT_S
        if net.is_down:
            raise BrokerUnavailable("not there")
        while (reachable_s := net.reachable_s(self.host)) > net.timeline.now_s:
            self._wait(min(reachable_s, gives_up_s))
            if net.timeline.now_s >= gives_up_s:
                raise BrokerUnavailable("no answer")
        if net.is_loading:
            raise BrokerUnavailable("LOADING")
        result = do()
        self._wait(net.timeline.now_s + net.delay_s())
        if net.is_down or net.reachable_s(self.host) > net.timeline.now_s:
            raise BrokerUnavailable("the answer was lost")
        return result

    def _wait(self, moment_s: float) -> None:
        self.net.timeline.run_until(moment_s)
        while not self.is_dead() and self.resumes_s() > self.net.timeline.now_s:
            self.net.timeline.run_until(self.resumes_s())
        if self.is_dead():
            raise Killed
