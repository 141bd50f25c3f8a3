"""Data of another version: whoever does not know their format leaves them alone, and says why."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.adapters.clock import RedisClock
from engine.adapters.poller import EpollPoller
from engine.adapters.redis.pool.supervisor_broker import RedisSupervisorBroker, Terms
from engine.adapters.redis.tasks.broker import RedisClientBroker
from engine.cli.exit_codes import Exit
from engine.core.store import schema
from engine.core.task.lifecycle import TaskStatus
from engine.errors import SchemaMismatch
from engine.ports.supervisor_broker import BrokerEvent, Joined, Parted
from engine.services.keeper.duties.audit import Audit
from engine.services.keeper.duty_list import make_rounds
from engine.services.keeper.presence import SupervisorPresence
from engine.services.keeper.reports import SupervisorReports
from tests.scripts.broker_rig import HOUR_MS, BrokerRig, messages

NEWER = b"%d %d" % (schema.VERSION + 1, schema.VERSION + 1)
OLDER = b"%d %d" % (schema.READS_FROM - 1, schema.READS_FROM - 1)
READABLE = b"%d %d" % (schema.VERSION + 1, schema.VERSION)  # newer, and written so that we do no harm
WAIT_S = 30.0


@pytest.mark.parametrize(("stored", "is_refused"), [
    (OLDER, True), (None, False), (schema.OURS.encode(), False), (READABLE, False), (NEWER, True), (b"nonsense", False),
    (b"", False), (b"9 9 9", False), (b"9" * 5000 + b" 1", False)])
def test_what_is_refused(stored: bytes | None, is_refused: bool) -> None:
    assert (schema.refusal(stored) is not None) is is_refused


def test_a_client_refuses_data_that_it_does_not_know(rig: BrokerRig) -> None:
    rig.client.set(rig.keys.schema, NEWER)
    broker = RedisClientBroker(f"unix://{rig.socket}")
    with pytest.raises(SchemaMismatch, match="written by a newer version of Ganger"):
        broker.submit([rig.new()])
    broker.close()
    assert rig.client.keys() == [rig.keys.schema.encode()]


def test_a_client_refuses_data_of_an_older_format_and_says_what_to_do(rig: BrokerRig) -> None:
    rig.client.set(rig.keys.schema, OLDER)
    broker = RedisClientBroker(f"unix://{rig.socket}")
    with pytest.raises(SchemaMismatch, match="let the older version finish its tasks and start with an empty Redis"):
        broker.read(["0" * 19])
    broker.close()


def test_data_from_before_there_was_a_format_are_refused_too(rig: BrokerRig) -> None:
    rig.client.hset(rig.keys.base + "life", "0" * 19, "COMPLETED 1 0 0 1 1 1 -")
    broker = RedisClientBroker(f"unix://{rig.socket}")
    with pytest.raises(SchemaMismatch, match="written by an older version of Ganger"):
        rig.unchanged(lambda: broker.submit([rig.new()]))
    broker.close()


def test_the_first_keeper_that_leads_names_the_format(rig: BrokerRig) -> None:
    assert rig.keeper.poll("one", rig.now_ms + HOUR_MS).refusal is None
    assert rig.client.get(rig.keys.schema) == schema.OURS.encode()


@pytest.mark.parametrize("stored", [NEWER, OLDER])
def test_a_keeper_never_leads_where_it_cannot_read_the_data(rig: BrokerRig, stored: bytes) -> None:
    rig.client.set(rig.keys.schema, stored)
    polled = rig.unchanged(lambda: rig.keeper.poll("one", rig.now_ms + HOUR_MS))
    assert not polled.leads
    assert polled.refusal is not None


def test_tasks_of_a_later_format_are_left_as_they_are(rig: BrokerRig) -> None:
    """By a keeper that led when they came, and learns of it only when it cannot read one."""
    task_id = rig.submit()
    rounds = make_rounds("k", rig.keeper, SupervisorReports(list), SupervisorPresence(SupervisorReports(list)), 15.0)
    rounds.go()
    assert rounds.leads
    rig.client.set(rig.keys.schema, NEWER)
    rig.client.hset(rig.keys.tasks, task_id, b"\x00what a later version writes")
    next(duty for duty in rounds.duties if isinstance(duty, Audit)).begin_in(0.0)
    rounds.go()
    assert rig.client.zscore(rig.keys.lane("q", rig.new().record.priority), task_id) is not None
    assert not rig.client.hexists(rig.keys.states, task_id), "it has not failed"
    rounds.ring()
    rounds.go()
    assert not rounds.leads
    rig.client.set(rig.keys.schema, schema.OURS)
    rounds.ring()
    rounds.go()
    rounds.go()
    assert rig.state(task_id).status is TaskStatus.FAILED, "of our own format it is a broken record"


@pytest.fixture
def side(rig: BrokerRig) -> Iterator[Callable[[], list[BrokerEvent]]]:
    """A supervisor's connection; what it hears next."""
    poller, clock = EpollPoller(), RedisClock()
    broker = RedisSupervisorBroker(f"unix://{rig.socket}", rig.keys, Terms("sup", ("q",), 15, 30, 60, 60), clock,
                                   poller)

    def hear() -> list[BrokerEvent]:
        end_s = time.monotonic() + WAIT_S
        while not (heard := broker.events()):
            assert time.monotonic() < end_s
            broker.tick(time.monotonic())
            poller.wait(0.05)
        return heard

    yield hear
    broker.close()


def test_a_supervisor_stays_away_from_the_moment_at_which_the_format_changes(
        rig: BrokerRig, side: Callable[[], list[BrokerEvent]]) -> None:
    assert [type(event) for event in side()] == [Joined]
    rig.client.set(rig.keys.schema, NEWER)
    rig.client.publish(rig.keys.wakeup("sup"), "#")
    for reason in ("the format of the data has changed", "written by a newer version of Ganger"):
        (event,) = side()
        assert isinstance(event, Parted)
        assert reason in event.reason


def test_a_keeper_that_raises_the_format_has_supervisors_look_at_it(
        rig: BrokerRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "READS_FROM", 0)
    rig.client.zadd(rig.keys.supervisors, {"sup": rig.now_ms + HOUR_MS})
    rig.client.set(rig.keys.schema, "0 0")
    heard = rig.hearing(rig.keys.wakeup("sup"))
    assert rig.keeper.poll("new", rig.now_ms + HOUR_MS).leads
    assert messages(heard, 1) == [b"#"]
    assert rig.client.get(rig.keys.schema) == schema.OURS.encode()


def test_an_engine_that_does_not_know_the_format_does_not_start(rig: BrokerRig, tmp_path: Path) -> None:
    rig.client.set(rig.keys.schema, NEWER)
    done = subprocess.run(
        [sys.executable, "-m", "engine", "run", "--redis-url", f"unix://{rig.socket}"], cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}, capture_output=True, text=True, check=False)
    assert done.returncode == Exit.BROKER, done.stderr
    assert "written by a newer version of Ganger" in done.stderr
    assert "Traceback" not in done.stderr
