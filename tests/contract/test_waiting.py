"""wait: hears of ends at once, misses none, and survives what happens to Redis."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from engine.adapters.redis.broker import Broker
from engine.core.lifecycle import TaskStatus
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


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as threads:
        yield threads


def test_what_has_ended_needs_no_waiting(shop: Shop) -> None:
    ids = [shop.ended(), shop.ended(TaskStatus.COMPLETED), "0" * 19]
    assert shop.broker.wait(ids, soon()) == set(ids)
    assert not shop.client.exists(P + "waiters")


def test_time_runs_out(shop: Shop) -> None:
    ended, queued = shop.ended(), shop.submit()
    assert shop.broker.wait([ended, queued], time.monotonic()) == {ended}
    assert shop.broker.wait([], time.monotonic()) == set()


def test_ends_are_heard_of(shop: Shop, threads: ThreadPoolExecutor) -> None:
    ids = [shop.submit() for _ in range(3)]
    waiting = threads.submit(shop.broker.wait, ids, soon())
    until(lambda: shop.client.hlen(P + "waiters") == 3)
    began_s = time.monotonic()
    for task_id in ids:
        shop.broker.cancel(task_id, "why")
    assert waiting.result() == set(ids)
    assert time.monotonic() - began_s < 0.9  # heard, not found out by the check of each second
    assert not shop.client.exists(P + "waiters")


def test_many_wait_for_one(shop: Shop, threads: ThreadPoolExecutor) -> None:
    task_id = shop.submit()
    waiting = [threads.submit(shop.broker.wait, [task_id], soon()) for _ in range(10)]
    until(lambda: (shop.client.hget(P + "waiters", task_id) or b"").count(b",") == 10)
    shop.broker.cancel(task_id, "why")
    assert [one.result() for one in waiting] == [{task_id}] * 10


def test_a_wait_after_one_that_gave_up(shop: Shop, threads: ThreadPoolExecutor) -> None:
    old, new = shop.submit(), shop.submit()
    assert shop.broker.wait([old], time.monotonic() + 0.01) == set()
    shop.broker.cancel(old, "nobody waits for it any more, but its end will be told")
    waiting = threads.submit(shop.broker.wait, [new], soon())
    until(lambda: shop.client.hexists(P + "waiters", new))
    shop.broker.cancel(new, "why")
    assert waiting.result() == {new}


def test_an_end_that_nobody_told_of_is_found_out(shop: Shop, threads: ThreadPoolExecutor) -> None:
    task_id = shop.submit()
    waiting = threads.submit(shop.broker.wait, [task_id], soon())
    until(lambda: shop.client.hexists(P + "waiters", task_id))
    shop.client.delete(P + "waiters")
    shop.broker.cancel(task_id, "why")
    assert waiting.result() == {task_id}


def test_a_task_that_is_deleted_is_not_waited_for(shop: Shop, threads: ThreadPoolExecutor) -> None:
    task_id = shop.submit()
    waiting = threads.submit(shop.broker.wait, [task_id], soon())
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
    waiting = threads.submit(shop.broker.wait, [task_id], soon())
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
        shop.broker.wait([task_id], time.monotonic() + 0.2)
    shop.close()


def test_a_child_of_a_fork_does_not_listen_on_its_parents_connection(shop: Shop) -> None:
    task_id = shop.ended()
    assert shop.broker.wait([task_id], soon()) == {task_id}
    waiting = shop.broker._waiting
    mine = waiting._idle[-1]
    waiting._pid = -1  # what a child finds
    assert waiting._take() is not mine
    mine.close()


def test_a_closed_broker_waits_no_more(shop: Shop) -> None:
    broker = Broker(shop.broker.redis.url)
    task_id = shop.submit()
    assert broker.wait([task_id], time.monotonic() + 0.01) == set()
    broker.close()
    with pytest.raises(Exception, match="closed"):
        broker.wait([task_id], soon())


def step(shop: Shop, task_id: str, verdict: str, outcome: bytes) -> None:
    supervisor = Supervisor(shop)
    supervisor.end(task_id, verdict, shop.life(task_id).run, outcome=outcome)


def test_a_single_end_is_heard_with_its_outcome(shop: Shop, threads: ThreadPoolExecutor) -> None:
    task_id = shop.claimed()
    hearing = threads.submit(shop.broker.hear, task_id, soon())
    until(lambda: shop.client.hlen(P + "waiters") == 1)
    step(shop, task_id, "fail attempt", b'{"run":1,"cause":"raised"}')
    assert hearing.result() == (TaskStatus.FAILED, {"run": 1, "cause": "raised"})


@pytest.mark.parametrize("outcome", [b"", b'{"result":"%s"}' % (b"x" * 20_000)], ids=["none", "large"])
def test_what_does_not_fit_into_the_news_has_to_be_read(shop: Shop, threads: ThreadPoolExecutor,
                                                        outcome: bytes) -> None:
    task_id = shop.claimed()
    hearing = threads.submit(shop.broker.hear, task_id, soon())
    until(lambda: shop.client.hlen(P + "waiters") == 1)
    step(shop, task_id, "complete nobody", outcome)
    assert hearing.result() is None
    assert shop.life(task_id).status is TaskStatus.COMPLETED


def test_there_is_no_news_of_what_had_ended_or_never_was(shop: Shop) -> None:
    assert shop.broker.hear(shop.ended(), soon()) is None
    assert shop.broker.hear("0" * 19, soon()) is None


def test_news_that_came_too_late_is_not_taken_for_that_of_the_next_end(shop: Shop) -> None:
    task_id = shop.claimed()
    assert shop.broker.hear(task_id, time.monotonic() + 0.01) is None
    step(shop, task_id, "fail attempt", b'{"run":1}')
    shop.broker.revive(task_id)
    assert shop.broker.hear(task_id, time.monotonic() + 0.01) is None
