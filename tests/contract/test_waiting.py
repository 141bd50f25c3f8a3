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
from tests.scripts.shop import Shop
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


def test_what_has_ended_needs_no_waiting(shop: Shop) -> None:
    ids = [shop.ended(), shop.ended(TaskStatus.COMPLETED), "0" * 19]
    assert wait(shop.broker, ids, soon()) == set(ids)
    assert not shop.client.exists(P + "waiters")


def test_time_runs_out(shop: Shop) -> None:
    ended, queued = shop.ended(), shop.submit()
    assert wait(shop.broker, [ended, queued], time.monotonic()) == {ended}
    assert wait(shop.broker, [], time.monotonic()) == set()


def test_ends_are_heard_of(shop: Shop, threads: ThreadPoolExecutor) -> None:
    ids = [shop.submit() for _ in range(3)]
    waiting = threads.submit(wait, shop.broker, ids, soon())
    until(lambda: shop.client.hlen(P + "waiters") == 3)
    began_s = time.monotonic()
    for task_id in ids:
        shop.broker.cancel(task_id, "why")
    assert waiting.result() == set(ids)
    assert time.monotonic() - began_s < 0.9  # heard, not found out by the check of each second
    assert not shop.client.exists(P + "waiters")


def test_many_wait_for_one(shop: Shop, threads: ThreadPoolExecutor) -> None:
    task_id = shop.submit()
    waiting = [threads.submit(wait, shop.broker, [task_id], soon()) for _ in range(10)]
    until(lambda: (shop.client.hget(P + "waiters", task_id) or b"").count(b",") == 10)
    shop.broker.cancel(task_id, "why")
    assert [one.result() for one in waiting] == [{task_id}] * 10


def test_a_wait_after_one_that_gave_up(shop: Shop, threads: ThreadPoolExecutor) -> None:
    old, new = shop.submit(), shop.submit()
    assert wait(shop.broker, [old], time.monotonic() + 0.01) == set()
    shop.broker.cancel(old, "nobody waits for it any more, but its end will be told")
    waiting = threads.submit(wait, shop.broker, [new], soon())
    until(lambda: shop.client.hexists(P + "waiters", new))
    shop.broker.cancel(new, "why")
    assert waiting.result() == {new}


def test_an_end_that_nobody_told_of_is_found_out(shop: Shop, threads: ThreadPoolExecutor) -> None:
    task_id = shop.submit()
    waiting = threads.submit(wait, shop.broker, [task_id], soon())
    until(lambda: shop.client.hexists(P + "waiters", task_id))
    shop.client.delete(P + "waiters")
    shop.broker.cancel(task_id, "why")
    assert waiting.result() == {task_id}


def test_a_task_that_is_deleted_is_not_waited_for(shop: Shop, threads: ThreadPoolExecutor) -> None:
    task_id = shop.submit()
    waiting = threads.submit(wait, shop.broker, [task_id], soon())
    until(lambda: shop.client.hexists(P + "waiters", task_id))
    shop.client.flushall()
    assert waiting.result() == {task_id}


@pytest.fixture
def frail() -> Iterator[RedisServer]:
    """A server of one's own, to be killed and started again; it keeps its data."""
    server = RedisServer(binaries()[0], appendonly="yes", appendfsync="always")
    yield server
    server.stop()


def test_a_restart_of_redis_is_survived(frail: RedisServer, threads: ThreadPoolExecutor) -> None:
    shop = Shop(frail)
    task_id = shop.submit()
    waiting = threads.submit(wait, shop.broker, [task_id], soon())
    until(lambda: shop.client.hexists(P + "waiters", task_id))
    frail.kill()
    frail.start()
    shop.broker.cancel(task_id, "why")
    assert waiting.result() == {task_id}
    shop.close()


def test_a_redis_that_stays_away_is_said(frail: RedisServer) -> None:
    shop = Shop(frail)
    task_id = shop.submit()
    frail.kill()
    with pytest.raises(BrokerUnavailable):
        wait(shop.broker, [task_id], time.monotonic() + 0.2)
    shop.close()


def test_a_child_of_a_fork_does_not_listen_on_its_parents_connection(shop: Shop) -> None:
    task_id = shop.ended()
    assert wait(shop.broker, [task_id], soon()) == {task_id}
    waiting = shop.broker._waiter
    mine = waiting._idle[-1]
    waiting._pid = -1  # what a child finds
    assert waiting._take() is not mine
    mine.close()


def test_a_closed_broker_waits_no_more(shop: Shop) -> None:
    broker = RedisClientBroker(shop.broker.redis.url)
    task_id = shop.submit()
    assert wait(broker, [task_id], time.monotonic() + 0.01) == set()
    broker.close()
    with pytest.raises(Exception, match="closed"):
        wait(broker, [task_id], soon())


def step(shop: Shop, task_id: str, verdict: str, outcome: bytes) -> None:
    supervisor = Supervisor(shop)
    supervisor.end(task_id, verdict, shop.state(task_id).run, outcome=outcome)


def test_a_single_end_is_heard_with_its_outcome(shop: Shop, threads: ThreadPoolExecutor) -> None:
    task_id = shop.claimed()
    hearing = threads.submit(shop.broker.await_end, task_id, soon())
    until(lambda: shop.client.hlen(P + "waiters") == 1)
    step(shop, task_id, "fail attempt", b'{"run":1,"cause":"raised"}')
    assert hearing.result() == (TaskStatus.FAILED, {"run": 1, "cause": "raised"})


@pytest.mark.parametrize("outcome", [b"", b'{"result":"%s"}' % (b"x" * 20_000)], ids=["none", "large"])
def test_what_does_not_fit_into_the_news_has_to_be_read(shop: Shop, threads: ThreadPoolExecutor,
                                                        outcome: bytes) -> None:
    task_id = shop.claimed()
    hearing = threads.submit(shop.broker.await_end, task_id, soon())
    until(lambda: shop.client.hlen(P + "waiters") == 1)
    step(shop, task_id, "complete nobody", outcome)
    assert hearing.result() is None
    assert shop.state(task_id).status is TaskStatus.COMPLETED


def test_there_is_no_news_of_what_had_ended_or_never_was(shop: Shop) -> None:
    assert shop.broker.await_end(shop.ended(), soon()) is None
    assert shop.broker.await_end("0" * 19, soon()) is None


def test_news_that_came_too_late_is_not_taken_for_that_of_the_next_end(shop: Shop) -> None:
    task_id = shop.claimed()
    assert shop.broker.await_end(task_id, time.monotonic() + 0.01) is None
    step(shop, task_id, "fail attempt", b'{"run":1}')
    shop.broker.requeue(task_id)
    assert shop.broker.await_end(task_id, time.monotonic() + 0.01) is None


# -- reading what has ended, slice by slice ---------------------------------------------------------------------------


def test_ends_come_in_slices_while_others_run(shop: Shop) -> None:
    over, running = shop.ended(TaskStatus.COMPLETED), [shop.claimed() for _ in range(3)]
    ends = shop.broker.ends([*running, over], soon())
    assert set(next(ends)) == {over}
    for task_id in running:
        step(shop, task_id, "complete nobody", b'{"run":1,"cause":"returned","result":7}')
        assert set(next(ends)) == {task_id}
    assert list(ends) == []


def test_a_wait_that_is_given_up_leaves_no_connection(shop: Shop) -> None:
    task_id = shop.submit()
    ends = shop.broker.ends([task_id, shop.ended()], soon())
    next(ends)
    assert shop.client.pubsub_channels(P + "done:*")
    ends.close()
    until(lambda: not shop.client.pubsub_channels(P + "done:*"))


def test_many_who_have_waited_leave_a_few_connections_for_the_next(shop: Shop) -> None:
    ids = [shop.submit() for _ in range(60)]
    with ThreadPoolExecutor(60) as many:
        waiting = [many.submit(wait, shop.broker, [task_id], soon()) for task_id in ids]
        until(lambda: shop.client.hlen(P + "waiters") == 60)
        for task_id in ids:
            shop.broker.cancel(task_id, "why")
        assert [one.result() for one in waiting] == [{task_id} for task_id in ids]
    until(lambda: len(shop.client.pubsub_channels(P + "done:*")) <= IDLE_MAX)
    before = set(shop.client.pubsub_channels(P + "done:*"))
    assert wait(shop.broker, [ids[0]], soon()) == {ids[0]}
    assert set(shop.client.pubsub_channels(P + "done:*")) == before, "they are used again"


def test_connections_that_lay_idle_over_a_restart_do_not_fail_a_short_wait(frail: RedisServer) -> None:
    shop = Shop(frail)
    task_id = shop.ended()
    assert wait(shop.broker, [task_id], soon()) == {task_id}
    frail.kill()
    frail.start()
    shop.broker.ping()
    queued = shop.submit()
    assert wait(shop.broker, [queued], time.monotonic() + 0.04) == set()
    shop.close()


def test_of_many_that_are_waited_for_some_are_asked_for_each_second(shop: Shop, threads: ThreadPoolExecutor,
                                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(end_waiter, "RECHECK_TASKS", 2)
    monkeypatch.setattr(end_waiter, "RECHECK_S", 0.01)
    ids = [shop.submit() for _ in range(5)]
    waiting = threads.submit(wait, shop.broker, ids, soon())
    until(lambda: shop.client.hlen(P + "waiters") == 5)
    shop.client.delete(P + "waiters")
    for task_id in ids:
        shop.client.hset(shop.keys.states, task_id, "CANCELLED 0 0 0 1 1 1764500000000 -")  # and nobody is told
    assert waiting.result() == set(ids)


def test_an_answer_that_grows_too_large_comes_in_parts(shop: Shop) -> None:
    ids = [shop.ended(TaskStatus.COMPLETED) for _ in range(40)]
    large = b'{"run":1,"cause":"returned","result":"%s"}' % (b"x" * 1_000_000)
    for task_id in ids:
        shop.client.hset(shop.keys.outcomes, f"{task_id}:1", large)
    assert len(shop.call("get_tasks", *ids, wants_records="1")) == 4 * 9, "8 MiB, and what goes over"
    assert [raw.id for raw in shop.broker.read_raw(ids) if raw is not None] == ids
    assert [stored.id for stored in shop.broker.read(ids) if stored is not None] == ids


def test_without_records_there_are_outcomes_and_what_never_was_is_told(shop: Shop) -> None:
    over, queued = shop.ended(), shop.submit()
    ended, waits, nothing = shop.broker.read_raw([over, queued, "0" * 19], records=False)
    assert ended is not None
    assert waits is not None
    assert nothing is None
    assert (ended.status, ended.outcome()) == (TaskStatus.FAILED, {"run": 1, "cause": "raised"})
    assert (waits.status, waits.outcome(), waits.record) == (TaskStatus.QUEUED, None, b"")
