"""wait: hears of ends at once, misses none, and survives what happens to Redis."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from engine.adapters.redis.tasks import end_waiter
from engine.adapters.redis.tasks.broker import RedisClientBroker
from engine.adapters.redis.tasks.end_waiter import IDLE_MAX
from engine.core.task.lifecycle import TaskStatus
from engine.errors import BrokerUnavailable
from tests.redis_server import RedisServer, binaries
from tests.scripts.broker_rig import BrokerRig
from tests.scripts.test_step import Supervisor

P = "ganger:{0}:"


def soon(seconds: float = 20.0) -> float:
    return time.monotonic() + seconds


def until(condition: Callable[[], object]) -> None:
    """Wait for something that another thread brings about."""
    limit_s = soon()
    while not condition():
        assert time.monotonic() < limit_s, "it never came about"
        threading.Event().wait(0.002)


def wait(broker: RedisClientBroker, ids: list[str], until_s: float) -> set[str]:
    """Those that ended, or do not exist."""
    return {task_id for over in broker.ends(ids, until_s) for task_id in over}


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as threads:
        yield threads


def test_what_has_ended_needs_no_waiting(rig: BrokerRig) -> None:
    ids = [rig.ended(), rig.ended(TaskStatus.COMPLETED), "0" * 19]
    assert wait(rig.broker, ids, soon()) == set(ids)
    assert not rig.client.exists(P + "waiters")


def test_time_runs_out(rig: BrokerRig) -> None:
    ended, queued = rig.ended(), rig.submit()
    assert wait(rig.broker, [ended, queued], time.monotonic()) == {ended}
    assert wait(rig.broker, [], time.monotonic()) == set()


def test_ends_are_heard_of(rig: BrokerRig, threads: ThreadPoolExecutor) -> None:
    ids = [rig.submit() for _ in range(3)]
    waiting = threads.submit(wait, rig.broker, ids, soon())
    until(lambda: rig.client.hlen(P + "waiters") == 3)
    began_s = time.monotonic()
    for task_id in ids:
        rig.broker.cancel(task_id, "why")
    assert waiting.result() == set(ids)
    assert time.monotonic() - began_s < 0.9  # heard, not found out by the check of each second
    assert not rig.client.exists(P + "waiters")


def test_many_wait_for_one(rig: BrokerRig, threads: ThreadPoolExecutor) -> None:
    task_id = rig.submit()
    waiting = [threads.submit(wait, rig.broker, [task_id], soon()) for _ in range(10)]
    until(lambda: (rig.client.hget(P + "waiters", task_id) or b"").count(b",") == 10)
    rig.broker.cancel(task_id, "why")
    assert [one.result() for one in waiting] == [{task_id}] * 10


def test_a_wait_after_one_that_gave_up(rig: BrokerRig, threads: ThreadPoolExecutor) -> None:
    old, new = rig.submit(), rig.submit()
    assert wait(rig.broker, [old], time.monotonic() + 0.01) == set()
    rig.broker.cancel(old, "nobody waits for it any more, but its end will be told")
    waiting = threads.submit(wait, rig.broker, [new], soon())
    until(lambda: rig.client.hexists(P + "waiters", new))
    rig.broker.cancel(new, "why")
    assert waiting.result() == {new}


def test_an_end_that_nobody_told_of_is_found_out(rig: BrokerRig, threads: ThreadPoolExecutor) -> None:
    task_id = rig.submit()
    waiting = threads.submit(wait, rig.broker, [task_id], soon())
    until(lambda: rig.client.hexists(P + "waiters", task_id))
    rig.client.delete(P + "waiters")
    rig.broker.cancel(task_id, "why")
    assert waiting.result() == {task_id}


def test_a_task_that_is_deleted_is_not_waited_for(rig: BrokerRig, threads: ThreadPoolExecutor) -> None:
    task_id = rig.submit()
    waiting = threads.submit(wait, rig.broker, [task_id], soon())
    until(lambda: rig.client.hexists(P + "waiters", task_id))
    rig.client.flushall()
    assert waiting.result() == {task_id}


@pytest.fixture
def frail() -> Iterator[RedisServer]:
    """A server of one's own, to be killed and started again; it keeps its data."""
    server = RedisServer(binaries()[0], appendonly="yes", appendfsync="always")
    yield server
    server.stop()


def test_a_restart_of_redis_is_survived(frail: RedisServer, threads: ThreadPoolExecutor) -> None:
    rig = BrokerRig(frail)
    task_id = rig.submit()
    waiting = threads.submit(wait, rig.broker, [task_id], soon())
    until(lambda: rig.client.hexists(P + "waiters", task_id))
    frail.kill()
    frail.start()
    rig.broker.cancel(task_id, "why")
    assert waiting.result() == {task_id}
    rig.close()


def test_a_redis_that_stays_away_is_said(frail: RedisServer) -> None:
    rig = BrokerRig(frail)
    task_id = rig.submit()
    frail.kill()
    with pytest.raises(BrokerUnavailable):
        wait(rig.broker, [task_id], time.monotonic() + 0.2)
    rig.close()


def test_a_child_of_a_fork_does_not_listen_on_its_parents_connection(rig: BrokerRig) -> None:
    task_id = rig.ended()
    assert wait(rig.broker, [task_id], soon()) == {task_id}
    waiting = rig.broker._waiter
    mine = waiting._idle[-1]
    waiting._pid = -1  # what a child finds
    assert waiting._take() is not mine
    mine.close()


def test_a_closed_broker_waits_no_more(rig: BrokerRig) -> None:
    broker = RedisClientBroker(rig.broker.redis.url)
    task_id = rig.submit()
    assert wait(broker, [task_id], time.monotonic() + 0.01) == set()
    broker.close()
    with pytest.raises(Exception, match="closed"):
        wait(broker, [task_id], soon())


def step(rig: BrokerRig, task_id: str, verdict: str, outcome: bytes) -> None:
    supervisor = Supervisor(rig)
    supervisor.end(task_id, verdict, rig.state(task_id).run, outcome=outcome)


def test_a_single_end_is_heard_with_its_outcome(rig: BrokerRig, threads: ThreadPoolExecutor) -> None:
    task_id = rig.claimed()
    hearing = threads.submit(rig.broker.await_end, task_id, soon())
    until(lambda: rig.client.hlen(P + "waiters") == 1)
    step(rig, task_id, "fail attempt", b'{"run":1,"cause":"raised"}')
    assert hearing.result() == (TaskStatus.FAILED, {"run": 1, "cause": "raised"})


@pytest.mark.parametrize("outcome", [b"", b'{"result":"%s"}' % (b"x" * 20_000)], ids=["none", "large"])
def test_what_does_not_fit_into_the_news_has_to_be_read(rig: BrokerRig, threads: ThreadPoolExecutor,
                                                        outcome: bytes) -> None:
    task_id = rig.claimed()
    hearing = threads.submit(rig.broker.await_end, task_id, soon())
    until(lambda: rig.client.hlen(P + "waiters") == 1)
    step(rig, task_id, "complete nobody", outcome)
    assert hearing.result() is None
    assert rig.state(task_id).status is TaskStatus.COMPLETED


def test_there_is_no_news_of_what_had_ended_or_never_was(rig: BrokerRig) -> None:
    assert rig.broker.await_end(rig.ended(), soon()) is None
    assert rig.broker.await_end("0" * 19, soon()) is None


def test_news_that_came_too_late_is_not_taken_for_that_of_the_next_end(rig: BrokerRig) -> None:
    task_id = rig.claimed()
    assert rig.broker.await_end(task_id, time.monotonic() + 0.01) is None
    step(rig, task_id, "fail attempt", b'{"run":1}')
    rig.broker.requeue(task_id)
    assert rig.broker.await_end(task_id, time.monotonic() + 0.01) is None


# -- reading what has ended, slice by slice ---------------------------------------------------------------------------


def test_ends_come_in_slices_while_others_run(rig: BrokerRig) -> None:
    over, running = rig.ended(TaskStatus.COMPLETED), [rig.claimed() for _ in range(3)]
    ends = rig.broker.ends([*running, over], soon())
    assert set(next(ends)) == {over}
    for task_id in running:
        step(rig, task_id, "complete nobody", b'{"run":1,"cause":"returned","result":7}')
        assert set(next(ends)) == {task_id}
    assert list(ends) == []


def test_a_wait_that_is_given_up_leaves_no_connection(rig: BrokerRig) -> None:
    task_id = rig.submit()
    ends = rig.broker.ends([task_id, rig.ended()], soon())
    next(ends)
    assert rig.client.pubsub_channels(P + "done:*")
    ends.close()
    until(lambda: not rig.client.pubsub_channels(P + "done:*"))


def test_many_who_have_waited_leave_a_few_connections_for_the_next(rig: BrokerRig) -> None:
    ids = [rig.submit() for _ in range(60)]
    with ThreadPoolExecutor(60) as many:
        waiting = [many.submit(wait, rig.broker, [task_id], soon()) for task_id in ids]
        until(lambda: rig.client.hlen(P + "waiters") == 60)
        for task_id in ids:
            rig.broker.cancel(task_id, "why")
        assert [one.result() for one in waiting] == [{task_id} for task_id in ids]
    until(lambda: len(rig.client.pubsub_channels(P + "done:*")) <= IDLE_MAX)
    before = set(rig.client.pubsub_channels(P + "done:*"))
    assert wait(rig.broker, [ids[0]], soon()) == {ids[0]}
    assert set(rig.client.pubsub_channels(P + "done:*")) == before, "they are used again"


def test_connections_that_lay_idle_over_a_restart_do_not_fail_a_short_wait(frail: RedisServer) -> None:
    rig = BrokerRig(frail)
    task_id = rig.ended()
    assert wait(rig.broker, [task_id], soon()) == {task_id}
    frail.kill()
    frail.start()
    rig.broker.ping()
    queued = rig.submit()
    assert wait(rig.broker, [queued], time.monotonic() + 0.04) == set()
    rig.close()


def test_of_many_that_are_waited_for_some_are_asked_for_each_second(rig: BrokerRig, threads: ThreadPoolExecutor,
                                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(end_waiter, "RECHECK_TASKS", 2)
    monkeypatch.setattr(end_waiter, "RECHECK_S", 0.01)
    ids = [rig.submit() for _ in range(5)]
    waiting = threads.submit(wait, rig.broker, ids, soon())
    until(lambda: rig.client.hlen(P + "waiters") == 5)
    rig.client.delete(P + "waiters")
    for task_id in ids:
        rig.client.hset(rig.keys.states, task_id, "CANCELLED 0 0 0 1 1 1764500000000 -")  # and nobody is told
    assert waiting.result() == set(ids)


def test_an_answer_that_grows_too_large_comes_in_parts(rig: BrokerRig) -> None:
    ids = [rig.ended(TaskStatus.COMPLETED) for _ in range(40)]
    large = b'{"run":1,"cause":"returned","result":"%s"}' % (b"x" * 1_000_000)
    for task_id in ids:
        rig.client.hset(rig.keys.outcomes, f"{task_id}:1", large)
    assert len(rig.call("get_tasks", *ids, wants_records="1")) == 4 * 9, "8 MiB, and what goes over"
    assert [raw.id for raw in rig.broker.read_raw(ids) if raw is not None] == ids
    assert [stored.id for stored in rig.broker.read(ids) if stored is not None] == ids


def test_without_records_there_are_outcomes_and_what_never_was_is_told(rig: BrokerRig) -> None:
    over, queued = rig.ended(), rig.submit()
    ended, waits, nothing = rig.broker.read_raw([over, queued, "0" * 19], records=False)
    assert ended is not None
    assert waits is not None
    assert nothing is None
    assert (ended.status, ended.outcome()) == (TaskStatus.FAILED, {"run": 1, "cause": "raised"})
    assert (waits.status, waits.outcome(), waits.record) == (TaskStatus.QUEUED, None, b"")
