"""Each key is deleted, written over or given a foreign entry while tasks wait, are due, run and have ended.

The keeper's rounds end, what has ended does not run again, what waits goes on, and what was done is reported.
"""

import logging
from typing import Any, NamedTuple

import pytest

from engine.adapters.redis.wire import key_types
from engine.adapters.redis.wire.keys import Keys
from engine.cli.doctor import repair as doctor
from engine.core.task.lifecycle import TaskStatus
from engine.core.task.priority import TaskPriority
from engine.errors import BrokerError
from engine.services.keeper.duties.audit import Audit
from engine.services.keeper.duty_list import make_rounds
from engine.services.keeper.reports import SupervisorReports
from tests.scripts.broker_rig import BrokerRig
from tests.scripts.test_refusals import reconcile_all
from tests.scripts.test_repair import LEASE_S, Nobody, repaired
from tests.scripts.test_step import Supervisor

BASE = Keys().base
COMMANDS_MAX = 6_000
NORMAL = TaskPriority.NORMAL
UNTOUCHED = {"schema", "api:keys", "api:keyed"}  # nobody may move these away unseen
NAMES = [*sorted({key.removeprefix(BASE) for key in key_types.always_there(BASE)} - UNTOUCHED),
         "lane:q:NORMAL", "cursors:q:NORMAL", "running:sup", "commands:sup", "types:sup"]


class Tasks(NamedTuple):
    queued: str
    other: str
    later: tuple[str, ...]
    running: str
    ended: tuple[str, ...]


class World:
    """A supervisor that goes on to call, and a keeper on its rounds, by a clock of our own."""

    def __init__(self, rig: BrokerRig) -> None:
        self.rig, self.now_s = rig, 0.0
        self.supervisor = Supervisor(rig)
        self.tasks = Tasks(rig.submit(), rig.submit("other"), (rig.pending(), rig.retrying()), rig.claimed(),
                           (rig.ended(TaskStatus.COMPLETED, max_deliveries=1), rig.ended(TaskStatus.FAILED)))
        self.rounds = make_rounds("keeper", rig.keeper, SupervisorReports(list), Nobody(), LEASE_S,  # type: ignore[arg-type]
                             lambda: self.now_s)

    def pass_time(self) -> None:
        for _ in range(12):
            self.now_s += 0.9
            try:
                self.supervisor.learn("t")
                self.supervisor.step()
            except BrokerError:
                pass  # a pool goes on to ask as well
            self.rounds.go()

    def claimable(self) -> set[str]:
        return set(Supervisor(self.rig, "probe").claim(50))


def delete(rig: BrokerRig, key: str) -> None:
    rig.client.delete(key)


def write_over(rig: BrokerRig, key: str) -> None:
    rig.client.delete(key)
    rig.client.rpush(key, "x") if key_types.key_type(BASE, key) != "list" else rig.client.set(key, "x")


def add_foreign_entry(rig: BrokerRig, key: str) -> None:
    client, entry = rig.client, b"\xff"
    commands: dict[str | None, tuple[Any, ...]] = {
        "hash": ("HSET", key, entry, entry), "zset": ("ZADD", key, 1, entry), "set": ("SADD", key, entry),
        "list": ("LPUSH", key, entry), "string": ("SET", key, entry), "stream": ("XADD", key, "*", entry, entry)}
    client.execute_command(*commands[key_types.key_type(BASE, key)])


def commands_so_far(rig: BrokerRig) -> int:
    return sum(told["calls"] for told in rig.client.info("commandstats").values())


@pytest.mark.parametrize("damage", [delete, write_over, add_foreign_entry], ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("name", NAMES)
def test_whatever_is_damaged_the_rest_goes_on(rig: BrokerRig, caplog: pytest.LogCaptureFixture, damage: Any,
                                              name: str) -> None:
    world = World(rig)
    tasks, before = world.tasks, commands_so_far(rig)
    damage(rig, BASE + name)
    with caplog.at_level(logging.WARNING):
        world.pass_time()
    assert commands_so_far(rig) - before < COMMANDS_MAX
    assert world.rounds.has_contact
    assert not any(duty.is_under_way for duty in world.rounds.duties if isinstance(duty, Audit))
    assert set(reconcile_all(rig)) <= {"flows"}, "what could be mended has been"
    if damage is write_over and name != "types:sup":  # the pool writes that anew by itself
        assert [told.key for told in caplog.records if hasattr(told, "renamed")] == [BASE + name]
    if name == "tasks" and damage is not add_foreign_entry:
        assert world.claimable() == set()
        return
    is_moment_lost = name == "due" and damage is not add_foreign_entry
    assert world.claimable() == {tasks.queued, tasks.other} | ({tasks.later[1]} if is_moment_lost else set())
    state = {task_id: rig.state(task_id).status for task_id in (*tasks.later, tasks.running, *tasks.ended)}
    retried = TaskStatus.RUNNING if is_moment_lost else TaskStatus.RETRYING  # when that was to be stood nowhere else
    assert list(state.values()) == [TaskStatus.PENDING, retried, TaskStatus.RUNNING, TaskStatus.COMPLETED,
                                   TaskStatus.FAILED]
    assert world.supervisor.end(tasks.running, "complete nobody") == []
    assert rig.state(tasks.running).status is TaskStatus.COMPLETED


def test_a_line_that_was_written_over_stops_no_other(rig: BrokerRig) -> None:
    world = World(rig)
    write_over(rig, rig.keys.lane("q", NORMAL))
    assert world.supervisor.claim(5) == [world.tasks.other]
    world.pass_time()
    assert world.claimable() == {world.tasks.queued}


@pytest.mark.parametrize("name", ["due", "lane:q:NORMAL", "supervisors", "states"])
def test_the_doctor_says_what_it_moved_away(rig: BrokerRig, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(doctor, "_WATCH_S", 0.0)
    rig.submit(), rig.pending()
    write_over(rig, BASE + name)
    assert "1 keys that something else was written to: renamed, see the log" in repaired(rig)
    assert BASE + "misplaced:" + name in rig.dump()
    assert Supervisor(rig).claim(5)


@pytest.mark.parametrize("name", ["tasks", "lane:q:NORMAL", "idle_supervisors"])
def test_an_error_names_the_key_that_is_of_the_wrong_type(rig: BrokerRig, name: str) -> None:
    write_over(rig, BASE + name)
    with pytest.raises(BrokerError, match=f"key {BASE}{name} is a list and has to be a [hz]".replace("{", r"\{")):
        rig.submit()


def test_a_connection_names_the_key_of_the_format(rig: BrokerRig) -> None:
    write_over(rig, rig.keys.schema)
    rig.broker.redis._forget_idle()
    with pytest.raises(BrokerError, match="schema is not the string"):
        rig.submit()


def test_a_line_has_its_turn_again_whatever_the_year_is(rig: BrokerRig) -> None:
    supervisor = Supervisor(rig)
    supervisor.clock_ms = 10_000_000_000_000
    ids = [rig.submit() for _ in range(3)]
    assert [supervisor.claim(1) for _ in ids] == [[task_id] for task_id in ids]
