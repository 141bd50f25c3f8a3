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
from engine.adapters.redis.pool.supervising import RedisSupervisorBroker, Terms
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
from tests.scripts.shop import HOUR_MS, Shop, messages

NEWER = b"%d %d" % (schema.VERSION + 1, schema.VERSION + 1)
OLDER = b"%d %d" % (schema.READS_FROM - 1, schema.READS_FROM - 1)
READABLE = b"%d %d" % (schema.VERSION + 1, schema.VERSION)  # newer, and written so that we do no harm
WAIT_S = 30.0


@pytest.mark.parametrize(("stored", "is_refused"), [
    (OLDER, True), (None, False), (schema.OURS.encode(), False), (READABLE, False), (NEWER, True), (b"nonsense", False),
    (b"", False), (b"9 9 9", False), (b"9" * 5000 + b" 1", False)])
def test_what_is_refused(stored: bytes | None, is_refused: bool) -> None:
    assert (schema.refusal(stored) is not None) is is_refused


def test_a_client_refuses_data_that_it_does_not_know(shop: Shop) -> None:
    shop.client.set(shop.keys.schema, NEWER)
    broker = RedisClientBroker(f"unix://{shop.socket}")
    with pytest.raises(SchemaMismatch, match="written by a newer version of Ganger"):
        broker.submit([shop.new()])
    broker.close()
    assert shop.client.keys() == [shop.keys.schema.encode()]


def test_a_client_refuses_data_of_an_older_format_and_says_what_to_do(shop: Shop) -> None:
    shop.client.set(shop.keys.schema, OLDER)
    broker = RedisClientBroker(f"unix://{shop.socket}")
    with pytest.raises(SchemaMismatch, match="let the older version finish its tasks and start with an empty Redis"):
        broker.read(["0" * 19])
    broker.close()


def test_the_first_keeper_that_leads_names_the_format(shop: Shop) -> None:
    assert shop.keeper.poll("one", shop.now_ms + HOUR_MS).refusal is None
    assert shop.client.get(shop.keys.schema) == schema.OURS.encode()


@pytest.mark.parametrize("stored", [NEWER, OLDER])
def test_a_keeper_never_leads_where_it_cannot_read_the_data(shop: Shop, stored: bytes) -> None:
    shop.client.set(shop.keys.schema, stored)
    polled = shop.unchanged(lambda: shop.keeper.poll("one", shop.now_ms + HOUR_MS))
    assert not polled.leads
    assert polled.refusal is not None


def test_tasks_of_a_later_format_are_left_as_they_are(shop: Shop) -> None:
    """By a keeper that led when they came, and learns of it only when it cannot read one."""
    task_id = shop.submit()
    rounds = make_rounds("k", shop.keeper, SupervisorReports(list), SupervisorPresence(SupervisorReports(list)), 15.0)
    rounds.go()
    assert rounds.leads
    shop.client.set(shop.keys.schema, NEWER)
    shop.client.hset(shop.keys.tasks, task_id, b"\x00what a later version writes")
    next(duty for duty in rounds.duties if isinstance(duty, Audit)).begin_in(0.0)
    rounds.go()
    assert shop.client.zscore(shop.keys.lane("q", shop.new().record.priority), task_id) is not None
    assert not shop.client.hexists(shop.keys.states, task_id), "it has not failed"
    rounds.ring()
    rounds.go()
    assert not rounds.leads
    shop.client.set(shop.keys.schema, schema.OURS)
    rounds.ring()
    rounds.go()
    rounds.go()
    assert shop.state(task_id).status is TaskStatus.FAILED, "of our own format it is a broken record"


@pytest.fixture
def side(shop: Shop) -> Iterator[Callable[[], list[BrokerEvent]]]:
    """A supervisor's connection; what it hears next."""
    poller, clock = EpollPoller(), RedisClock()
    broker = RedisSupervisorBroker(f"unix://{shop.socket}", shop.keys, Terms("sup", ("q",), 15, 30, 60, 60), clock,
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
        shop: Shop, side: Callable[[], list[BrokerEvent]]) -> None:
    assert [type(event) for event in side()] == [Joined]
    shop.client.set(shop.keys.schema, NEWER)
    shop.client.publish(shop.keys.wakeup("sup"), "#")
    for reason in ("the format of the data has changed", "written by a newer version of Ganger"):
        (event,) = side()
        assert isinstance(event, Parted)
        assert reason in event.reason


def test_a_keeper_that_raises_the_format_has_supervisors_look_at_it(
        shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "READS_FROM", 0)
    shop.client.zadd(shop.keys.supervisors, {"sup": shop.now_ms + HOUR_MS})
    shop.client.set(shop.keys.schema, "0 0")
    heard = shop.hearing(shop.keys.wakeup("sup"))
    assert shop.keeper.poll("new", shop.now_ms + HOUR_MS).leads
    assert messages(heard, 1) == [b"#"]
    assert shop.client.get(shop.keys.schema) == schema.OURS.encode()


def test_an_engine_that_does_not_know_the_format_does_not_start(shop: Shop, tmp_path: Path) -> None:
    shop.client.set(shop.keys.schema, NEWER)
    done = subprocess.run(
        [sys.executable, "-m", "engine", "run", "--redis-url", f"unix://{shop.socket}"], cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}, capture_output=True, text=True, check=False)
    assert done.returncode == Exit.BROKER, done.stderr
    assert "written by a newer version of Ganger" in done.stderr
    assert "Traceback" not in done.stderr
