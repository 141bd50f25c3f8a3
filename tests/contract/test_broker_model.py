"""The broker against a model: whatever clients, supervisors and keepers do, Redis has what the dictionary says.

Two clients, two supervisors and a keeper take turns at random, all through the real scripts on a real server. After
each step everything in the database is compared; each refusal leaves its digest as it was.
"""

import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as some
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from engine.adapters.redis.tasks.broker import Broker
from engine.core.task.lifecycle import FINAL, MOVES, Move
from engine.core.task.priority import TaskPriority
from engine.errors import BrokerError, MoveRefused, TaskNotFound
from tests.contract.broker_model import ENDS, WAITING, Model, S, Task, found
from tests.redis_server import RedisServer
from tests.scripts.shop import HOUR_MS, Shop
from tests.scripts.test_refusals import reconcile_all, recover
from tests.scripts.test_step import Supervisor

P = "ganger:{0}:"
QUEUES = some.sampled_from(["q", "x"])
PRIORITIES = some.sampled_from(TaskPriority)
FAIR_KEYS = some.sampled_from(["", "a", "b"])
SUPERVISORS = some.sampled_from(["one", "two"])
CLIENTS = some.sampled_from([0, 1])
KNOWN = {"one": ("t", "a"), "two": ("t", "b")}  # the types that each supervisor can run, until it learns others
TYPES = some.sampled_from(["t", "t", "a", "b", "c"])


class Tasks(RuleBasedStateMachine):
    """Only `server` comes from outside; each run starts with an empty database."""

    server: RedisServer
    ids = Bundle("ids")

    @initialize()
    def begin(self) -> None:
        self.shop, self.model = Shop(self.server), Model()
        self.clients = [self.shop.broker, Broker(self.server.url)]
        self.supervisors = {name: Supervisor(self.shop, name, types=types) for name, types in KNOWN.items()}
        self.known = {name: set(types) for name, types in KNOWN.items()}
        self.heard = self.shop.hearing(P + "done:me")
        self.waited: set[str] = set()

    def teardown(self) -> None:
        if hasattr(self, "shop"):
            self.heard.close()
            self.clients[1].close()
            self.shop.close()

    # -- what clients do ------------------------------------------------------------------------------------------

    @rule(target=ids, client=CLIENTS, queue=QUEUES, priority=PRIORITIES, fair_key=FAIR_KEYS, delayed=some.booleans(),
          expiring=some.booleans(), key=some.sampled_from([None, None, "k", "l"]), task_type=TYPES)
    def submit(self, client: int, queue: str, priority: TaskPriority, fair_key: str, delayed: bool, expiring: bool,
               key: str | None, task_type: str) -> Any:
        options: dict[str, Any] = {"fair_key": fair_key} if fair_key else {}
        if delayed:
            options["due_ms"] = self.shop.now_ms + HOUR_MS
        if expiring:
            options["expires_ms"] = self.shop.now_ms + 2 * HOUR_MS
        new, known = self.shop.new(
            queue, priority, key, task_type=task_type, **options), self.model.keys.get((queue, key or ""))
        if known in self.model.tasks:
            assert self.shop.unchanged(lambda: self.clients[client].submit([new])) == [known]
            return multiple()
        assert self.clients[client].submit([new]) == [new.id]
        self.model.tasks[new.id] = Task(queue, priority, S.PENDING if delayed else S.QUEUED, expiring,
                                        task_type)
        if key:
            self.model.keys[queue, key] = new.id
        assert self.shop.unchanged(lambda: self.clients[1 - client].submit([new])) == [new.id], "sent once more"
        with pytest.raises(BrokerError, match="another task"):
            self.shop.unchanged(lambda: self.clients[client].submit([new._replace(
                record=self.shop.new("other").record, idempotency_key=None)]))
        return new.id

    @rule(client=CLIENTS, task_id=ids)
    def cancel(self, client: int, task_id: str) -> None:
        task = self.model.tasks[task_id]
        answer = self.attempt(task.status not in FINAL, lambda: self.clients[client].cancel(task_id, "why"))
        if task.status is S.RUNNING:
            assert answer is S.RUNNING
            self.model.letters.setdefault(task.owner, []).append((task_id, task.run))
        elif task.status in WAITING:
            assert answer is S.CANCELLED
            task.end_waiting(S.CANCELLED)

    @rule(client=CLIENTS, task_id=ids)
    def revive(self, client: int, task_id: str) -> None:
        task = self.model.tasks[task_id]
        possible = Move.REVIVE in MOVES[task.status]
        self.attempt(possible, lambda: self.clients[client].revive(task_id))
        if possible:
            task.status, task.attempts, task.crashes, task.rescues = S.QUEUED, 0, 0, 0

    @rule(client=CLIENTS, task_id=ids, priority=PRIORITIES)
    def set_priority(self, client: int, task_id: str, priority: TaskPriority) -> None:
        task = self.model.tasks[task_id]
        self.attempt(task.status in WAITING, lambda: self.clients[client].set_priority(task_id, priority))
        if task.status in WAITING:
            task.priority = priority

    @rule(queue=QUEUES, limit=some.integers(1, 5))
    def purge(self, queue: str, limit: int) -> None:
        queued = [task_id for task_id, task in self.model.tasks.items()
                  if task.status is S.QUEUED and task.queue == queue]
        assert self.shop.broker.purge(queue, limit) == min(limit, len(queued))
        gone = [one.id for one in self.shop.broker.read(queued) if one and one.life.status is S.CANCELLED]
        assert len(gone) == min(limit, len(queued))
        for task_id in gone:
            self.model.tasks[task_id].end_waiting(S.CANCELLED)

    @rule(target=ids, client=CLIENTS, task_id=consumes(ids))
    def delete(self, client: int, task_id: str) -> Any:
        if self.model.tasks[task_id].status in FINAL:
            assert self.clients[client].delete([task_id]) == 1
            del self.model.tasks[task_id]
            self.waited.discard(task_id)
            with pytest.raises(TaskNotFound):
                self.shop.unchanged(lambda: self.clients[client].cancel(task_id, "why"))
            return multiple()
        assert self.shop.unchanged(lambda: self.clients[client].delete([task_id])) == 0
        return task_id

    @rule(task_id=ids)
    def watch(self, task_id: str) -> None:
        keys, ended = self.shop.keys, self.model.tasks[task_id].status in FINAL
        over = self.shop.run("watch", [keys.tasks, keys.life, keys.waiters], ["me", task_id])
        assert over == ([task_id.encode()] if ended else [])
        if not ended:
            self.waited.add(task_id)

    @rule(queue=QUEUES, client=CLIENTS, paused=some.booleans())
    def gate(self, queue: str, client: int, paused: bool) -> None:
        (self.clients[client].pause if paused else self.clients[client].resume)(queue)
        (self.model.paused.add if paused else self.model.paused.discard)(queue)

    # -- what supervisors do --------------------------------------------------------------------------------------

    def take_mail(self, name: str, orders: list[bytes]) -> None:
        assert len(orders) == len(self.model.letters.pop(name, []))
        assert self.supervisors[name].step()[2] == [], "those that were said to be heard"

    @rule(name=SUPERVISORS)
    def lose_mail(self, name: str) -> None:
        """A step whose answer never came."""
        supervisor = self.supervisors[name]
        assert len(supervisor.step()[2]) == len(self.model.letters.get(name, []))
        supervisor.heard = b""

    @rule(name=SUPERVISORS, types=some.sets(some.sampled_from("tabc"), min_size=1))
    def learn(self, name: str, types: set[str]) -> None:
        self.known[name] = types
        self.supervisors[name].learn(*sorted(types))

    @rule(name=SUPERVISORS, want=some.integers(1, 4))
    def claim(self, name: str, want: int) -> None:
        open_ones = [task for task in self.model.tasks.values()
                     if task.status is S.QUEUED and task.queue not in self.model.paused
                     and task.task_type in self.known[name]]
        refused, claimed, orders, _, held = self.supervisors[name].step(want=want)
        assert (refused, len(claimed)) == ([], min(want, len(open_ones)))
        for task_id, counters in claimed:
            task = self.model.tasks[task_id]
            assert task in open_ones
            task.status, task.run, task.owner, task.expires = S.RUNNING, task.run + 1, name, False
            told = f"{task.run} {task.attempts} {task.crashes}"
            assert counters in (told, f"{told} {int(task.priority)}")
        self.take_mail(name, orders)
        assert held == len(self.model.held(name))

    @rule(name=SUPERVISORS, task_id=ids, verdict=some.sampled_from(sorted(ENDS)),
          off=some.sampled_from([0, 0, 0, -1, 1]))
    def settle(self, name: str, task_id: str, verdict: str, off: int) -> None:
        """Also of runs that are not its own, or are over, or have never been."""
        supervisor, run = self.supervisors[name], self.model.tasks[task_id].run + off
        at = self.model.tasks[task_id].queue if verdict.startswith("release") else supervisor.clock_ms + HOUR_MS
        outcome = b"" if verdict.startswith("release") else b'{"run":%d}' % max(run, 0)
        self.take_mail(name, supervisor.step()[2])
        call = lambda: supervisor.step([(task_id, run, verdict, at, outcome)])[0]  # noqa: E731
        if self.model.settles(name, task_id, run, verdict):
            assert call() == []
            again = self.shop.unchanged(call)
            assert again[0] == 1, "sent once more"
        else:
            assert self.shop.unchanged(call)[0] == 1

    @rule(name=SUPERVISORS)
    def recover(self, name: str) -> None:
        held = sorted(self.model.held(name))
        known = held[::2]
        strangers = [task_id for task_id in self.model.tasks if task_id not in held][:2]
        told = [(task_id, self.model.tasks[task_id].run) for task_id in [*known, *strangers]]
        assert recover(self.shop, told, name) == [task_id.encode() for task_id in strangers]
        for task_id in set(held) - set(known):
            self.model.tasks[task_id].let_go(S.QUEUED)
        assert self.shop.unchanged(lambda: recover(self.shop, [], name, nth=1)) == [], "one that comes late"

    # -- what the keeper does -------------------------------------------------------------------------------------

    @rule(task_id=ids)
    def promote(self, task_id: str) -> None:
        task = self.model.tasks[task_id]
        self.shop.client.zadd(P + "due", {task_id: 1}, xx=True)
        due = task.status in (S.PENDING, S.RETRYING)
        assert self.shop.keeper.promote(10)[0] == int(due)
        if due:
            task.status = S.QUEUED

    @rule(task_id=ids)
    def expire(self, task_id: str) -> None:
        task = self.model.tasks[task_id]
        self.shop.client.zadd(P + "expiring", {task_id: 1}, xx=True)
        assert self.shop.keeper.expire(10)[0] == int(task.expires)
        if task.expires:
            task.end_waiting(S.FAILED)

    @rule(name=SUPERVISORS)
    def rescue(self, name: str) -> None:
        if self.model.held(name):
            assert self.shop.unchanged(lambda: self.shop.keeper.rescue(name, 100)).released == 0, "its lease holds"
        self.shop.keeper.lapse(name)
        assert self.shop.keeper.rescue(name, 100).is_over
        self.model.rescue(name)
        self.supervisors[name].learn(*self.known[name])  # as one does that finds itself forgotten

    @rule()
    def reconcile(self) -> None:
        assert set(reconcile_all(self.shop)) <= {"flows"}

    # -- what must hold -------------------------------------------------------------------------------------------

    def attempt(self, possible: bool, call: Callable[[], Any]) -> Any:
        """Make the call: it goes through if it is possible, else it is refused and nothing has changed."""
        if possible:
            return call()
        with pytest.raises(MoveRefused):
            self.shop.unchanged(call)
        return None

    @invariant()
    def redis_has_what_the_dictionary_says(self) -> None:
        if not hasattr(self, "shop"):
            return
        has, should = found(self.shop.dump(), P), self.model.expected()
        for task_id, life in has["lives"].items():
            if life[4] is None:  # never touched since its submit: its priority stands in the record
                has["lives"][task_id] = (*life[:4], self.model.tasks[task_id].priority, life[5])
        assert has == should

    @invariant()
    def those_who_wait_are_told(self) -> None:
        if not hasattr(self, "shop"):
            return
        ended = {task_id for task_id in self.waited if self.model.tasks[task_id].status in FINAL}
        limit_s = time.monotonic() + 5
        while ended:
            assert time.monotonic() < limit_s, ended
            message = self.heard.get_message(timeout=1)
            if message and message["type"] == "message":
                told = set(message["data"].decode().split(","))
                ended -= told
                self.waited -= told


def test_the_broker_keeps_every_task_as_the_model_does(any_server: RedisServer) -> None:
    run_state_machine_as_test(
        type("TasksHere", (Tasks,), {"server": any_server}),
        settings=settings(max_examples=25, stateful_step_count=30, deadline=None, database=None,
                          suppress_health_check=list(HealthCheck)))
