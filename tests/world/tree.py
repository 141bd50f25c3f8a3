"""The processes of a world, pools and keepers: they turn at events, and are killed, stopped and started again."""

from collections.abc import Callable, Iterable
from itertools import count
from random import Random
from typing import Any

import orjson

from engine.adapters.kernel.identity import Identity, Presence
from engine.core.pool.deadlines import Timing
from engine.core.pool.dispatch import Dispatch
from engine.core.pool.window import Windows
from engine.core.task.policy import RunPolicy
from engine.core.task.retry import RetryPolicy
from engine.core.tree.restart import RestartBudget
from engine.services.keeper.duty_list import make_rounds
from engine.services.keeper.presence import SupervisorPresence
from engine.services.keeper.reports import SupervisorReports
from engine.services.pool.pool_terms import PoolTerms
from engine.services.pool.supervisor import Pool, Surroundings
from engine.services.tree.hang_watch import HANG_S, LEASE_MARGIN_S, SILENCE_S_MIN
from tests.world.brokers import Killed, WorldBroker, WorldKeeperBroker
from tests.world.clock import HostTime, Timeline, WorldClock
from tests.world.host import WorldHost
from tests.world.ledger import ENDS, Ledger
from tests.world.network import Network

LEASE_S = 15.0
WELL_S = 2.0
POLICY = RunPolicy(timeout_s=20.0, retry=RetryPolicy(max_retries=2, backoff_s=0.5, max_crashes=3))
Behaviour = Callable[[bytes, int], tuple[float, bytes | None, bool]]


class Machine:
    """A host: a monotonic clock, and a kernel that knows which of its processes are alive."""

    def __init__(self, name: str, timeline: Timeline, random: Random) -> None:
        self.name, self.time = name, HostTime(timeline, random.uniform(0, 1e6))
        self.wrong_ms = random.choice([0.0, random.uniform(-600_000, 600_000)])  # its wall clock
        self.pids = count(1000)
        self.processes: dict[int, Callable[[], bool]] = {}  # pid -> does it live?
        self.pools: dict[int, Callable[[], None]] = {}  # pid -> ends it and everything below it at once

    def host_id(self) -> str:
        return self.name

    def presence(self, one: Identity) -> Presence:
        lives = self.processes.get(one.pid)
        return Presence.LIVES if lives is not None and lives() else Presence.GONE

    def end(self, roots: Iterable[Identity], within_s: float) -> bool:
        for one in list(roots):
            if one.pid in self.pools:
                self.pools[one.pid]()
        return True


class Process:
    """A process with a loop. Events carry the number of its incarnation, so that none reaches a later one."""

    def __init__(self, timeline: Timeline, random: Random) -> None:
        self.timeline, self.random = timeline, random
        self.incarnation = 0
        self.is_dead = False
        self.resumes_s = 0.0
        self._next_s = float("inf")

    def stop_for(self, seconds: float) -> None:
        self.resumes_s = max(self.resumes_s, self.timeline.now_s + seconds)

    def wake(self) -> None:
        self._turn_at(self.timeline.now_s + 0.0001)

    def _turn_at(self, moment_s: float) -> None:
        moment_s = max(moment_s, self.resumes_s)
        if moment_s < self._next_s and not self.is_dead:
            self._next_s = moment_s
            self.timeline.at(moment_s, self._on_time, moment_s, self.incarnation)

    def _on_time(self, moment_s: float, incarnation: int) -> None:
        if self.is_dead or incarnation != self.incarnation or moment_s != self._next_s:
            return
        self._next_s = float("inf")
        if self.resumes_s > self.timeline.now_s:
            self._turn_at(self.resumes_s)
        else:
            self._turn()

    def _turn(self) -> None:
        raise NotImplementedError


class PoolProcess(Process):
    def __init__(self, net: Network, ledger: Ledger, machine: Machine, random: Random, label: str, slots: int,
                 window: int, behave: Behaviour, *, fences: bool) -> None:
        super().__init__(net.timeline, random)
        self.net, self.ledger, self.machine, self.label, self.behave = net, ledger, machine, label, behave
        self.slots, self.window, self.fences = slots, window, fences
        self.deployed = frozenset(ENDS)  # what its next incarnation can run
        self._begin()

    def _begin(self) -> None:
        self.incarnation, self.is_dead, self._next_s = self.incarnation + 1, False, float("inf")
        self.resumes_s = 0.0
        machine, net, incarnation = self.machine, self.net, self.incarnation
        self.name = f"{machine.name}.{self.label}.{incarnation}"
        pid = next(machine.pids)
        machine.processes[pid] = lambda: self.incarnation == incarnation and not self.is_dead
        machine.pools[pid] = lambda: self._end(incarnation)
        clock = WorldClock(machine.time, machine.wrong_ms)
        ledger = self.ledger
        self.host = WorldHost(net.timeline, self.random, ledger, self.name, machine, net.slowness,
                              self.deployed, self.wake, self.behave)
        self.broker = WorldBroker(net, self.name, machine.name, machine.time, clock, LEASE_S, self.wake,
                                  {"host_id": machine.name, "pid": pid, "born_at": 1})
        core = HeardDispatch(ledger.heard, self.slots, RestartBudget(5, 30.0), Windows(self.window),
                             Timing(boot_s=10.0), self.random.random)
        terms = PoolTerms(self.name, self.label, (), POLICY, lease_s=LEASE_S, fences=self.fences, grace_s=5.0,
                          report_s=8.0, outcomes_pending_max=8, settle_max=2, claim_max=8)
        self.pool = Pool(terms, core, Surroundings(self.host, self.broker, _Instant(), clock, lambda message: None,
                                                   machine.time))
        self.pool.start()
        self.wake()

    def _turn(self) -> None:
        self.pool.turn(WELL_S)
        if self.pool.is_done:
            self._close()
        else:
            self._turn_at(self.timeline.now_s + max(0.0005, min(WELL_S, self.pool._idle_s())))

    def send_command(self, command: str) -> None:
        """The pool has to obey it, unless its process ends before."""
        if not self.is_dead and not self.pool.core.draining and self._has_lease():
            self.ledger.commands[command] = self.name
            text = orjson.dumps({"do": "cancel", "id": "none", "reason": command})
            self.net.model.store.send(self.name, text)

    def _has_lease(self) -> bool:
        known = self.net.model.store.supervisors.get(self.name)
        return known is not None and known.lease_end_ms is not None

    def _close(self) -> None:
        """As the pool's process does at its end; its root starts the next."""
        self.host.stop()
        self.ledger.forgotten(self.name)
        self.is_dead = True
        if self.broker.up:
            self.broker.unregister()
            self.timeline.after(1.0, self.broker.close)
        else:
            self.broker.close()
        self.timeline.after(0.5, self._begin)

    def _end(self, incarnation: int) -> None:
        """A keeper of its host ends the remaining processes, workers included."""
        if incarnation == self.incarnation:
            if not self.is_dead:
                self.kill()
            self.host.stop()

    # -- what is done to it ---------------------------------------------------------------------------------------

    def kill(self) -> None:
        if self.is_dead:
            return
        self.is_dead = True
        self.ledger.forgotten(self.name)
        self.host.crash()
        self.broker.close()
        self.timeline.after(self.random.uniform(0.2, 3.0), self._begin)

    def stop_for(self, seconds: float) -> None:
        """The root kills a process that is silent for too long."""
        super().stop_for(seconds)
        silence_s = min(HANG_S, max(LEASE_S - LEASE_MARGIN_S, SILENCE_S_MIN)) - self.random.uniform(0, WELL_S)
        if seconds > silence_s:
            self.timeline.after(silence_s + self.random.uniform(0, 1.0), self._end_hung, self.incarnation)

    def _end_hung(self, incarnation: int) -> None:
        if incarnation == self.incarnation and self.resumes_s > self.timeline.now_s:
            self.kill()

    def drain(self) -> None:
        if not self.is_dead:
            self.pool.drain()
            self.wake()


class HeardDispatch(Dispatch):
    """Tells of the commands that come to it: to cancel tasks that there never were."""

    def __init__(self, heard: Callable[[str], None], *args: Any) -> None:
        super().__init__(*args)
        self.heard = heard

    def cancel(self, task_id: bytes, reason: str, now_s: float) -> None:
        self.heard(reason)
        super().cancel(task_id, reason, now_s)


class _Instant:
    """A poller that returns at once."""

    def wait(self, timeout_s: float | None) -> int:
        return 0

    def register(self, fd: int, callback: Any, mask: int = 0) -> None: ...
    def modify(self, fd: int, mask: int) -> None: ...
    def unregister(self, fd: int) -> None: ...


class KeeperProcess(Process):
    def __init__(self, net: Network, machine: Machine, random: Random) -> None:
        super().__init__(net.timeline, random)
        self.net, self.machine = net, machine
        net.keepers.append(self.wake)
        self._is_busy = False
        self._begin()

    def _begin(self) -> None:
        if self._is_busy:  # the killed one has not come back from its call yet
            self.timeline.after(0.5, self._begin)
            return
        self.incarnation, self.is_dead, self._next_s = self.incarnation + 1, False, float("inf")
        incarnation, machine = self.incarnation, self.machine
        broker = WorldKeeperBroker(self.net, machine.name, WorldClock(machine.time, machine.wrong_ms),
                                   lambda: self.is_dead or incarnation != self.incarnation, lambda: self.resumes_s)
        reports = SupervisorReports(lambda: [orjson.loads(report) for report in broker.reports()])
        self.rounds = make_rounds(f"{machine.name}.keeper.{incarnation}", broker, reports,
                                  SupervisorPresence(reports, machine), LEASE_S, machine.time)
        self.wake()

    def wake(self) -> None:
        self.rounds.ring()
        if not self._is_busy:
            super().wake()

    def _turn(self) -> None:
        self._is_busy = True
        try:
            wait_s = self.rounds.go()
        except Killed:
            return
        finally:
            self._is_busy = False
        self._turn_at(self.timeline.now_s + max(0.0005, wait_s))

    def kill(self) -> None:
        if not self.is_dead:
            self.is_dead = True
            self.timeline.after(self.random.uniform(0.2, 5.0), self._begin)
