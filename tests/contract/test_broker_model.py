"""The broker against the reference model: whatever clients, supervisors and keepers do, Redis has what the model has.

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

from engine.adapters.redis.tasks.broker import RedisClientBroker
from engine.core.task.lifecycle import FINAL, Move, TaskStatus
from engine.core.task.priority import TaskPriority
from engine.errors import BrokerError, GangerError, MoveRefused, TaskNotFound
from engine.testing.model import ReferenceModel
from engine.testing.model.store import ModelTask
from engine.testing.model.supervisor import RunEnd
from tests.contract.broker_model import VERDICTS, S, expected, found
from tests.redis_server import RedisServer
from tests.scripts.broker_rig import HOUR_MS, RESCUES_MAX, BrokerRig
from tests.scripts.test_refusals import reconcile_all, sync_held_runs
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
        self.rig, self.model = BrokerRig(self.server), ReferenceModel()
        self.clients = [self.rig.broker, RedisClientBroker(self.server.url)]
        self.supervisors = {name: Supervisor(self.rig, name, types=types) for name, types in KNOWN.items()}
        for name, types in KNOWN.items():
            self.model.supervisor.register(name, types)
        self.heard = self.rig.hearing(P + "done:me")
        self.waited: set[str] = set()

    def task(self, task_id: str) -> ModelTask:
        return self.model.store.tasks[task_id]

    def status(self, task_id: str) -> TaskStatus:
        return self.task(task_id).state.status

    def held(self, name: str) -> set[str]:
        return self.model.store.supervisor(name).running

    @property
    def now_ms(self) -> int:
        return self.rig.now_ms

    def teardown(self) -> None:
        if hasattr(self, "rig"):
            self.heard.close()
            self.clients[1].close()
            self.rig.close()

    # -- what clients do ------------------------------------------------------------------------------------------

    @rule(target=ids, client=CLIENTS, queue=QUEUES, priority=PRIORITIES, fair_key=FAIR_KEYS, delayed=some.booleans(),
          expiring=some.booleans(), key=some.sampled_from([None, None, "k", "l"]), task_type=TYPES)
    def submit(self, client: int, queue: str, priority: TaskPriority, fair_key: str, delayed: bool, expiring: bool,
               key: str | None, task_type: str) -> Any:
        options: dict[str, Any] = {"fair_key": fair_key} if fair_key else {}
        if delayed:
            options["due_ms"] = self.rig.now_ms + HOUR_MS
        if expiring:
            options["expires_ms"] = self.rig.now_ms + 2 * HOUR_MS
        new, before = self.rig.new(queue, priority, key, task_type=task_type, **options), len(self.model.store.tasks)
        answer = self.model.client.submit(new.id, new.record, self.now_ms, key)
        if len(self.model.store.tasks) == before:
            assert self.rig.unchanged(lambda: self.clients[client].submit([new])) == [answer]
            return multiple()
        assert self.clients[client].submit([new]) == [answer] == [new.id]
        assert self.model.client.submit(new.id, new.record, self.now_ms, key) == new.id
        assert self.rig.unchanged(lambda: self.clients[1 - client].submit([new])) == [new.id], "sent once more"
        other = new._replace(record=self.rig.new("other").record, idempotency_key=None)
        with pytest.raises(BrokerError, match="another task"):
            self.rig.unchanged(lambda: self.clients[client].submit([other]))
        with pytest.raises(BrokerError, match="another task"):
            self.model.client.submit(new.id, other.record, self.now_ms)
        return new.id

    @rule(client=CLIENTS, task_id=ids)
    def cancel(self, client: int, task_id: str) -> None:
        self.both(lambda: self.clients[client].cancel(task_id, "why"),
                  lambda: self.model.client.cancel(task_id, "why", self.now_ms))

    @rule(client=CLIENTS, task_id=ids)
    def requeue(self, client: int, task_id: str) -> None:
        self.both(lambda: self.clients[client].requeue(task_id),
                  lambda: self.model.client.requeue(task_id, self.now_ms))

    @rule(client=CLIENTS, task_id=ids, priority=PRIORITIES)
    def set_priority(self, client: int, task_id: str, priority: TaskPriority) -> None:
        self.both(lambda: self.clients[client].set_priority(task_id, priority),
                  lambda: self.model.client.set_priority(task_id, priority, self.now_ms))

    @rule(queue=QUEUES, limit=some.integers(1, 5))
    def purge(self, queue: str, limit: int) -> None:
        queued = [task_id for lane in self.model.store.lanes.of_queue(queue) for task_id in lane]
        assert self.rig.broker.purge(queue, limit) == min(limit, len(queued))
        gone = [one.id for one in self.rig.broker.read(queued) if one and one.state.status is S.CANCELLED]
        assert len(gone) == min(limit, len(queued))
        for task_id in gone:
            self.model.client.cancel(task_id, "its queue was purged", self.now_ms)

    @rule(target=ids, client=CLIENTS, task_id=consumes(ids))
    def delete(self, client: int, task_id: str) -> Any:
        if self.status(task_id) in FINAL:
            assert self.clients[client].delete([task_id]) == self.model.client.delete([task_id]) == 1
            self.waited.discard(task_id)
            self.both(lambda: self.clients[client].cancel(task_id, "why"),
                      lambda: self.model.client.cancel(task_id, "why", self.now_ms))
            return multiple()
        assert self.rig.unchanged(lambda: self.clients[client].delete([task_id])) == 0
        assert self.model.client.delete([task_id]) == 0
        return task_id

    @rule(task_id=ids)
    def watch(self, task_id: str) -> None:
        ended = self.status(task_id) in FINAL
        over = self.rig.call("watch", task_id, client="me")
        assert over == ([task_id.encode()] if ended else [])
        if not ended:
            self.waited.add(task_id)

    @rule(queue=QUEUES, client=CLIENTS, paused=some.booleans())
    def gate(self, queue: str, client: int, paused: bool) -> None:
        if paused:
            self.clients[client].pause(queue)
            self.model.client.pause(queue)
        else:
            self.clients[client].resume(queue)
            self.model.client.resume(queue, self.now_ms)

    # -- what supervisors do --------------------------------------------------------------------------------------

    def take_commands(self, name: str, commands: list[bytes]) -> None:
        known = self.model.store.supervisor(name).commands
        assert len(commands) == len(known)
        known.clear()
        assert self.supervisors[name].step()[2] == [], "those that were confirmed"

    @rule(name=SUPERVISORS)
    def lose_commands(self, name: str) -> None:
        """A step whose answer never came."""
        supervisor = self.supervisors[name]
        assert len(supervisor.step()[2]) == len(self.model.store.supervisor(name).commands)
        supervisor.heard = b""

    @rule(name=SUPERVISORS, types=some.sets(some.sampled_from("tabc"), min_size=1))
    def learn(self, name: str, types: set[str]) -> None:
        self.model.supervisor.register(name, types)
        self.supervisors[name].learn(*sorted(types))

    @rule(name=SUPERVISORS, want=some.integers(1, 4))
    def claim(self, name: str, want: int) -> None:
        """Which of several lanes comes first is a matter of microseconds: the model starts what Redis has chosen."""
        possible = self.model.supervisor.choose(name, 1000, self.now_ms)
        refused, claimed, commands, _, held = self.supervisors[name].step(want=want)
        ids = [task_id for task_id, _ in claimed]
        assert refused == []
        assert set(ids) <= set(possible)
        assert self.priorities(ids) == self.priorities(possible)[:want]
        self.model.supervisor.start(name, ids, self.now_ms)
        for task_id, counters in claimed:
            state = self.task(task_id).state
            told = f"{state.run} {state.attempts} {state.crashes}"
            assert counters in (told, f"{told} {int(state.priority)}")
        self.take_commands(name, commands)
        assert held == len(self.held(name))

    def priorities(self, ids: list[str]) -> list[TaskPriority]:
        return [self.task(task_id).state.priority for task_id in ids]

    @rule(name=SUPERVISORS, task_id=ids, verdict=some.sampled_from(sorted(VERDICTS)),
          off=some.sampled_from([0, 0, 0, -1, 1]))
    def settle(self, name: str, task_id: str, verdict: str, off: int) -> None:
        """Also of runs that are not its own, or are over, or have never been."""
        supervisor, task = self.supervisors[name], self.task(task_id)
        run, is_release = task.state.run + off, verdict.startswith("release")
        at_ms, outcome = supervisor.clock_ms + HOUR_MS, b"" if is_release else b'{"run":%d}' % max(run, 0)
        self.take_commands(name, supervisor.step()[2])

        def real() -> list[Any]:
            at = task.record.queue if is_release else at_ms
            return supervisor.step([(task_id, run, verdict, at, outcome)])[0]

        def modelled() -> list[Any]:
            word = self.model.supervisor.settle(name, RunEnd(task_id, run, verdict, at_ms, outcome), self.now_ms)
            return [1, word] if word else []

        word = modelled()
        if not word:
            assert real() == []
            word = modelled()  # sent once more
        refused = self.rig.unchanged(real)
        assert refused == word or task.state.run == 0  # one that never ran has no state in Redis, which says GONE
        assert refused[0] == word[0] == 1

    @rule(name=SUPERVISORS)
    def sync_held_runs(self, name: str) -> None:
        held = sorted(self.held(name))
        known = held[::2]
        strangers = [task_id for task_id in self.model.store.tasks if task_id not in held][:2]
        told = {task_id: self.task(task_id).state.run for task_id in [*known, *strangers]}
        number = self.model.store.supervisor(name).last_sync + 1
        assert self.model.supervisor.sync_held_runs(name, told, self.now_ms, number) == strangers
        assert sync_held_runs(self.rig, list(told.items()), name) == [task_id.encode() for task_id in strangers]
        assert self.rig.unchanged(lambda: sync_held_runs(self.rig, [], name, nth=1)) == [], "one that comes late"

    # -- what the keeper does -------------------------------------------------------------------------------------

    @rule(task_id=ids)
    def promote(self, task_id: str) -> None:
        self.rig.client.zadd(P + "due", {task_id: 1}, xx=True)
        if task_id in self.model.store.due:
            self.model.store.due[task_id] = 1
        assert self.rig.keeper.promote(10)[0] == self.model.keeper.promote(self.now_ms)

    @rule(task_id=ids)
    def expire(self, task_id: str) -> None:
        self.rig.client.zadd(P + "expiring", {task_id: 1}, xx=True)
        if task_id in self.model.store.expiring:
            self.model.store.expiring[task_id] = 1
        assert self.rig.keeper.expire(10)[0] == self.model.keeper.expire(self.now_ms)

    @rule(target=ids, task_id=consumes(ids))
    def sweep(self, task_id: str) -> Any:
        status = self.status(task_id)
        if status not in FINAL:
            return task_id
        self.rig.client.zadd(self.rig.keys.ended(status), {task_id: 1}, xx=True)
        self.model.store.ended[status][task_id] = 1
        assert self.rig.keeper.sweep(10)[0] == self.model.keeper.remove(self.now_ms) == 1
        self.waited.discard(task_id)
        return multiple()

    @rule()
    def reapply_cancel_requests(self) -> None:
        assert self.rig.keeper.reapply_cancel_requests()[0] == self.model.keeper.reapply_cancel_requests(self.now_ms)

    @rule(name=SUPERVISORS)
    def rescue(self, name: str) -> None:
        types = self.model.store.supervisor(name).types
        if self.held(name):
            assert self.rig.unchanged(lambda: self.rig.keeper.rescue(name, 100)).released == 0, "its lease holds"
        self.rig.keeper.expire_lease(name)
        self.model.keeper.expire_lease(name)
        report, moves = self.rig.keeper.rescue(name, 100), self.model.keeper.rescue(name, self.now_ms, RESCUES_MAX)
        assert report.is_over
        assert (report.released, report.failed, report.cancelled) == (
            moves[Move.RELEASE], moves[Move.FAIL], moves[Move.CANCEL])
        self.supervisors[name].learn(*types)  # as one does that finds itself forgotten
        self.model.supervisor.register(name, types)

    @rule()
    def reconcile(self) -> None:
        assert set(reconcile_all(self.rig)) <= {"flows"}

    # -- what must hold -------------------------------------------------------------------------------------------

    def both(self, real: Callable[[], Any], modelled: Callable[[], Any]) -> None:
        """Make a call to Redis and to the model: both give the same answer, or both refuse and change nothing."""
        answer = answered(modelled)
        if isinstance(answer, GangerError):
            assert repr(self.rig.unchanged(lambda: answered(real))) == repr(answer)
        else:
            assert real() == answer

    @invariant()
    def redis_has_what_the_model_has(self) -> None:
        if hasattr(self, "rig"):
            assert found(self.rig.dump(), P, self.model) == expected(self.model)

    @invariant()
    def those_who_wait_are_told(self) -> None:
        if not hasattr(self, "rig"):
            return
        ended = {task_id for task_id in self.waited if self.status(task_id) in FINAL}
        limit_s = time.monotonic() + 5
        while ended:
            assert time.monotonic() < limit_s, ended
            message = self.heard.get_message(timeout=1)
            if message and message["type"] == "message":
                task_ids, _, notification = message["data"].decode().partition(" ")
                told = set(task_ids.split(","))
                if notification:  # the end of a single task: "STATUS outcome"
                    assert notification.partition(" ")[0] == self.status(task_ids)
                ended -= told
                self.waited -= told


def answered(call: Callable[[], Any]) -> Any:
    """What a call returns, or the refusal that it raises."""
    try:
        return call()
    except (MoveRefused, TaskNotFound) as refusal:
        return refusal


def test_the_broker_keeps_every_task_as_the_model_does(any_server: RedisServer) -> None:
    run_state_machine_as_test(
        type("TasksHere", (Tasks,), {"server": any_server}),
        settings=settings(max_examples=25, stateful_step_count=30, deadline=None, database=None,
                          suppress_health_check=list(HealthCheck)))
