"""The broker against a model: whatever is done to tasks, each is where its status says, and nowhere else.

The model is a dictionary of statuses; after each step the whole database is
read and every id in it must be accounted for.
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

from engine.core.life import Life
from engine.core.lifecycle import FINAL, MOVES, Move, TaskStatus
from engine.core.priority import TaskPriority
from engine.errors import MoveRefused
from tests.redis_server import RedisServer
from tests.scripts.shop import HOUR_MS, Shop
from tests.scripts.test_refusals import reconcile_all, recover

S = TaskStatus
P = "ganger:{0}:"
QUEUES = some.sampled_from(["q", "x"])
PRIORITIES = some.sampled_from(TaskPriority)
FAIR_KEYS = some.sampled_from(["", "a", "b"])


class Tasks(RuleBasedStateMachine):
    """Only `server` comes from outside; each run starts with an empty database."""

    server: RedisServer
    ids = Bundle("ids")

    @initialize()
    def begin(self) -> None:
        self.shop = Shop(self.server)
        self.statuses: dict[str, TaskStatus] = {}
        self.heard = self.shop.hearing(P + "done:me")
        self.waited: set[str] = set()

    def teardown(self) -> None:
        if hasattr(self, "shop"):
            self.heard.close()
            self.shop.close()

    # -- what clients do ------------------------------------------------------------------------------------------

    @rule(target=ids, queue=QUEUES, priority=PRIORITIES, fair_key=FAIR_KEYS, delayed=some.booleans(),
          expiring=some.booleans())
    def submit(self, queue: str, priority: TaskPriority, fair_key: str, delayed: bool, expiring: bool) -> str:
        options = {"fair_key": fair_key} if fair_key else {}
        if delayed:
            options["due_ms"] = self.shop.now_ms + HOUR_MS
        if expiring:
            options["expires_ms"] = self.shop.now_ms + 2 * HOUR_MS
        task_id = self.shop.submit(queue, priority, **options)
        self.statuses[task_id] = S.PENDING if delayed else S.QUEUED
        return task_id

    @rule(task_id=ids)
    def cancel(self, task_id: str) -> None:
        status = self.statuses[task_id]
        answer = self.attempt(status not in FINAL, lambda: self.shop.broker.cancel(task_id, "why"))
        if status not in FINAL:
            self.statuses[task_id] = S.RUNNING if status is S.RUNNING else S.CANCELLED
            assert answer is self.statuses[task_id]

    @rule(task_id=ids)
    def revive(self, task_id: str) -> None:
        possible = Move.REVIVE in MOVES[self.statuses[task_id]]
        self.attempt(possible, lambda: self.shop.broker.revive(task_id))
        if possible:
            self.statuses[task_id] = S.QUEUED

    @rule(task_id=ids, priority=PRIORITIES)
    def set_priority(self, task_id: str, priority: TaskPriority) -> None:
        possible = self.statuses[task_id] in (S.PENDING, S.QUEUED, S.RETRYING)
        self.attempt(possible, lambda: self.shop.broker.set_priority(task_id, priority))
        if possible:
            assert self.shop.life(task_id).priority is priority

    @rule(queue=QUEUES, limit=some.integers(1, 5))
    def purge(self, queue: str, limit: int) -> None:
        before = {stored.id: stored for stored in self.shop.broker.read(list(self.statuses)) if stored}
        queued = [task_id for task_id, status in self.statuses.items()
                  if status is S.QUEUED and before[task_id].record.queue == queue]
        assert self.shop.broker.purge(queue, limit) == min(limit, len(queued))
        after = self.shop.broker.read(queued)
        gone = [stored.id for stored in after if stored and stored.life.status is S.CANCELLED]
        assert len(gone) == min(limit, len(queued))
        self.statuses.update(dict.fromkeys(gone, S.CANCELLED))

    @rule(target=ids, task_id=consumes(ids))
    def delete(self, task_id: str) -> Any:
        if self.statuses[task_id] in FINAL:
            assert self.shop.broker.delete([task_id]) == 1
            del self.statuses[task_id]
            self.waited.discard(task_id)
            return multiple()
        assert self.shop.unchanged(lambda: self.shop.broker.delete([task_id])) == 0
        return task_id

    @rule(task_id=ids)
    def watch(self, task_id: str) -> None:
        keys = self.shop.keys
        over = self.shop.run("watch", [keys.tasks, keys.life, keys.waiters], ["me", task_id])
        assert over == ([task_id.encode()] if self.statuses[task_id] in FINAL else [])
        if not over:
            self.waited.add(task_id)

    # -- what supervisors and the keeper do -----------------------------------------------------------------------

    @rule(task_id=ids, supervisor=some.sampled_from(["one", "two"]))
    def claim(self, task_id: str, supervisor: str) -> None:
        if self.statuses[task_id] is S.QUEUED:
            self.shop.claim(task_id, supervisor)
            self.statuses[task_id] = S.RUNNING

    @rule(task_id=ids, status=some.sampled_from([S.COMPLETED, S.FAILED, S.TIMEOUT, S.RETRYING]))
    def settle(self, task_id: str, status: TaskStatus) -> None:
        if self.statuses[task_id] is S.RUNNING:
            self.shop.settle(task_id, status)
            self.statuses[task_id] = status
            self.waited -= {task_id} if status in FINAL else set()
            if status in FINAL:
                self.shop.client.hdel(P + "waiters", task_id)

    @rule(task_id=ids)
    def promote(self, task_id: str) -> None:
        self.shop.client.zadd(P + "due", {task_id: 1}, xx=True)
        due = self.statuses[task_id] in (S.PENDING, S.RETRYING)
        assert self.shop.keeper.promote(10)[0] == int(due)
        if due:
            self.statuses[task_id] = S.QUEUED

    @rule(task_id=ids)
    def expire(self, task_id: str) -> None:
        waits = self.shop.client.zadd(P + "expiring", {task_id: 1}, xx=True, ch=True)
        assert self.shop.keeper.expire(10)[0] == int(waits)
        if waits:
            assert self.statuses[task_id] in (S.PENDING, S.QUEUED, S.RETRYING)
            self.statuses[task_id] = S.FAILED

    @rule(supervisor=some.sampled_from(["one", "two"]))
    def rescue(self, supervisor: str) -> None:
        held = {task_id.decode() for task_id in self.shop.client.smembers(P + "held:" + supervisor)}
        self.shop.keeper.lapse(supervisor)
        assert self.shop.keeper.rescue(supervisor, 100).is_over
        for task_id in held:
            status = self.shop.life(task_id).status
            assert status in (S.QUEUED, S.FAILED, S.CANCELLED)
            self.statuses[task_id] = status

    @rule(supervisor=some.sampled_from(["one", "two"]))
    def recover(self, supervisor: str) -> None:
        held = sorted(task_id.decode() for task_id in self.shop.client.smembers(P + "held:" + supervisor))
        known = held[::2]
        assert recover(self.shop, [(task_id, self.shop.life(task_id).run) for task_id in known], supervisor,
                       ("q", "x")) == []
        self.statuses.update(dict.fromkeys(set(held) - set(known), S.QUEUED))

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
    def each_task_is_in_its_place_only(self) -> None:
        if not hasattr(self, "shop"):
            return
        state = self.shop.dump()
        stored = {one.id: one for one in self.shop.broker.read(list(self.statuses)) if one}
        assert set(stored) == set(self.statuses) == {task_id.decode() for task_id in state.get(P + "tasks", {})}
        assert {task_id: one.life.status for task_id, one in stored.items()} == self.statuses
        for task_id, one in stored.items():
            assert _places(state, task_id) == _home(one.record.queue, one.life), task_id
        assert {task_id.decode() for task_id in state.get(P + "life", {})} <= set(self.statuses)
        assert {field.decode()[:19] for field in state.get(P + "outcomes", {})} <= set(self.statuses)

    @invariant()
    def those_who_wait_are_told(self) -> None:
        if not hasattr(self, "shop"):
            return
        ended = {task_id for task_id in self.waited if self.statuses[task_id] in FINAL}
        limit_s = time.monotonic() + 5
        while ended:
            assert time.monotonic() < limit_s, ended
            message = self.heard.get_message(timeout=1)
            if message and message["type"] == "message":
                told = set(message["data"].decode().split(","))
                ended -= told
                self.waited -= told


def _places(state: dict[str, Any], task_id: str) -> set[str]:
    """Every key that has the id and moves it on."""
    found = set()
    for key, value in state.items():
        name = key.removeprefix(P)
        if name == "due" or name.startswith(("line:", "ended:")):
            members = {member for member, _ in value}
        elif name.startswith("held:"):
            members = value
        else:
            continue
        if task_id.encode() in members:
            found.add(name)
    return found


def _home(queue: str, life: Life) -> set[str]:
    if life.status is S.QUEUED:
        return {f"line:{queue}:{life.priority.name}"}
    if life.status is S.RUNNING:
        return {f"held:{life.owner}"}
    return {f"ended:{life.status}"} if life.status in FINAL else {"due"}


def test_the_broker_keeps_every_task_in_its_place(any_server: RedisServer) -> None:
    run_state_machine_as_test(
        type("TasksHere", (Tasks,), {"server": any_server}),
        settings=settings(max_examples=80, stateful_step_count=30, deadline=None, database=None,
                          suppress_health_check=list(HealthCheck)))
