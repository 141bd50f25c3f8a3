"""A client, a pool and a keeper on one Redis, all in this process and turn by turn; the seam lies between."""

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import count
from typing import TypeVar

import redis

from engine import Client
from engine.adapters.clock import RedisClock
from engine.adapters.poller import EpollPoller
from engine.adapters.redis.keeper.keeper_broker import RedisKeeperBroker
from engine.adapters.redis.pool.supervisor_broker import RedisSupervisorBroker, Terms
from engine.adapters.redis.tasks.broker import RedisClientBroker
from engine.adapters.redis.wire.keys import Keys
from engine.core.pool.dispatch import Dispatch, Timing
from engine.core.pool.window import Windows
from engine.core.task.event import events
from engine.core.task.lifecycle import FINAL, TaskStatus
from engine.core.task.policy import RunPolicy
from engine.core.task.retry import RetryPolicy
from engine.core.tree.restart import RestartBudget
from engine.errors import BrokerError
from engine.services.keeper.duties.audit import Audit
from engine.services.keeper.duty_list import make_rounds
from engine.services.keeper.reports import SupervisorReports
from engine.services.pool.pool_terms import PoolTerms
from engine.services.pool.supervisor import Pool, Surroundings
from tests.faults.scripted_workers import ScriptedWorkers
from tests.faults.seam import Seam
from tests.redis_server import RedisServer

PATIENCE_S = 30.0
LEAP_S, LEAPS_S_MAX = 0.05, 8.0  # of the clocks of pool and keeper, so that none of their pauses takes long
MENDED_S = 0.15  # after which somebody has looked after a Redis that fails for good
POLICY = RunPolicy(retry=RetryPolicy(max_retries=2, backoff_s=0.001, jitter=0.0))
Answer = TypeVar("Answer")


class FaultHarness:
    def __init__(self, server: RedisServer, seam: Seam, direct: redis.Redis) -> None:
        self.seam, self.direct = seam, direct
        direct.flushall()
        self.keys = Keys()
        self.client = Client(redis_url=seam.url, submit_timeout_s=0.25)
        self._leapt_s = 0.0
        self.began: Counter[tuple[str, int]] = Counter()
        self.asked: dict[str, set[TaskStatus]] = {}  # id -> the ends that it may have
        self.dead: list[str] = []  # supervisors whose processes are gone
        self._names = count(1)
        self.broker = RedisClientBroker(seam.url, timeout_s=0.25)
        self.rounds = make_rounds(
            "keeper", RedisKeeperBroker(self.broker), SupervisorReports(list), self, 15.0, self.now_s)  # type: ignore[arg-type]
        audit = next(duty for duty in self.rounds.duties if isinstance(duty, Audit))
        audit.begin_in(3600.0)  # that is not what is tried here, and makes many calls
        self.watcher = RedisClientBroker(server.url)
        self.pool: Pool
        self.link: RedisSupervisorBroker
        self.hire()

    def hire(self) -> None:
        """A pool, ready to work."""
        name, clock, poller = f"pool{next(self._names)}", RedisClock(), EpollPoller()
        self.poller = poller
        terms = Terms(name, (), 15.0, 60.0, 3600.0, 3600.0)
        self.link = RedisSupervisorBroker(self.seam.url, self.keys, terms, clock, poller)
        core = Dispatch(2, RestartBudget(1000, 1.0), Windows(1), Timing(), lambda: 0.5)
        self.pool = Pool(PoolTerms(name, "default", (), POLICY, fences=False, grace_s=0.2), core, Surroundings(
            ScriptedWorkers(self.began), self.link, poller, clock, lambda message: None, self.now_s))
        self.pool.start()

    def lose_pool(self) -> None:
        """kill -9: it says nothing any more, and its workers are gone with it."""
        self.link.close()
        self.dead.append(self.pool.terms.supervisor)

    def close(self) -> None:
        self.link.close()
        self.client.close()
        self.broker.close()
        self.watcher.close()

    def now_s(self) -> float:
        return time.monotonic() + self._leapt_s

    # -- time passes ----------------------------------------------------------------------------------------------

    def pump(self, holds: Callable[[], object], what: str) -> None:
        """Let pool and keeper go on until something is true."""
        begin_s = time.monotonic()
        while not holds():
            passed_s = time.monotonic() - begin_s
            assert passed_s < PATIENCE_S, f"not within {PATIENCE_S:.0f} s: {what}"
            if passed_s > MENDED_S and self.seam.has_failed:
                self.seam.heal()
            self.pool.turn(0.002)
            self.rounds.go()
            self._leapt_s = min(LEAPS_S_MAX, self._leapt_s + LEAP_S)

    def end(self, supervisor: str) -> None: ...

    def gone(self, now_s: float, supervisors: Iterable[str]) -> list[str]:
        """Fulfils what the keeper asks its `SupervisorPresence`."""
        return [name for name in self.dead if self.direct.zscore(self.keys.supervisors, name) is not None]

    def insist(self, call: Callable[[], Answer]) -> Answer:
        """As whoever wants something does: again, until Redis has said yes. What failed for good is mended then."""
        end_s = time.monotonic() + PATIENCE_S
        while True:
            try:
                return call()
            except BrokerError:
                assert time.monotonic() < end_s
                self.seam.heal()

    def submit(self, task_type: str, *ends: TaskStatus) -> str:
        key = f"key {len(self.asked)}"
        task_id = self.insist(lambda: self.client.submit(task_type, {}, idempotency_key=key))
        self.asked[task_id] = set(ends)
        return task_id

    # -- what there is --------------------------------------------------------------------------------------------

    def status(self, task_id: str) -> TaskStatus | None:
        stored = self.watcher.read([task_id])[0]
        return None if stored is None else stored.state.status

    def have_ended(self) -> bool:
        """All of them, and the keeper knows."""
        is_known = not self.direct.exists(self.keys.cancel_requests)
        return is_known and all(self.status(task_id) in FINAL for task_id in self.asked)

    def leave(self) -> None:
        """The pool drains and says farewell, as its process does at its end."""
        self.pool.drain()
        self.pump(lambda: self.pool.is_done, "the pool has drained")
        if self.link.up:
            self.link.unregister()
            end_s = time.monotonic() + 1.0
            while not self.link.is_unregistered and time.monotonic() < end_s:
                self.poller.wait(0.01)
                self.link.events()
        self.lose_pool()
        self.hire()

    def judge(self) -> None:
        """Nothing is lost, nothing is there that nobody asked for, every task has one end, no run began twice, and the
        keys do not contradict each other."""
        assert {task_id.decode() for task_id in self.direct.hkeys(self.keys.tasks)} == set(self.asked)
        for task_id, ends in self.asked.items():
            assert self.status(task_id) in ends, f"{task_id} ended as {self.status(task_id)}"
        told = Counter(event.id for _, fields in self.direct.xrange(self.keys.events) for event in events(fields[b"e"])
                       if event.status in FINAL)
        assert told == Counter(list(self.asked)), f"one accepted end each, not {told}"
        assert set(self.began.values()) <= {1}, self.began
        keeper, cursor = RedisKeeperBroker(self.watcher), None
        while True:
            look = keeper.audit(cursor)
            wrong = {what: number for what, number in look.repaired.items() if number and what != "flows"}
            assert not wrong, wrong
            cursor = look.cursor
            if cursor is None:
                break

    def __enter__(self) -> "FaultHarness":
        return self

    def __exit__(self, *error: object) -> None:
        with contextlib.suppress(OSError):
            self.close()


