"""Why a task that could run does not, in words; and which types nobody can run."""

from collections.abc import Iterator

import pytest

from engine.core.task.lifecycle import TaskStatus
from engine.core.task.names import types_in_words
from tests.redis_server import RedisServer
from tests.scripts.shop import Shop
from tests.scripts.test_step import Supervisor


@pytest.fixture
def shop(redis_server: RedisServer) -> Iterator[Shop]:
    shop = Shop(redis_server)
    yield shop
    shop.close()


def reason(shop: Shop, task_id: str) -> str | None:
    (stored,) = shop.broker.read([task_id])
    assert stored is not None
    return shop.broker.reason(stored)


def test_each_reason_has_its_words(shop: Shop) -> None:
    task_id, foreign = shop.submit(), shop.submit(task_type="new")
    assert reason(shop, task_id) == "no pool is running"
    supervisor = Supervisor(shop)
    supervisor.step()
    assert reason(shop, task_id) is None, "it waits for its turn"
    assert reason(shop, foreign) == "no living pool knows the type 'new'"
    supervisor.step(report=b'{"queues":["x"]}')
    assert reason(shop, task_id) == "no living pool that knows the type 't' serves the queue 'q'"
    down = '"queues":["q"],"hook_failures":{"app:connect":"OSError: no database"},"slots":[{"slot":0,"state":"down"}'
    supervisor.step(report=f"{{{down}]}}".encode())
    assert reason(shop, task_id) == "no worker can start: app:connect raised OSError: no database"
    supervisor.step(report=f'{{{down},{{"slot":1,"state":"idle"}}]}}'.encode())
    assert reason(shop, task_id) is None, "another worker has started"
    shop.broker.pause("q")
    assert reason(shop, task_id) == "its queue 'q' is paused"
    ended = shop.ended()
    assert shop.state(ended).status is TaskStatus.FAILED
    assert reason(shop, ended) is None


@pytest.mark.parametrize("report", [b'{"queues":5}', b'{"queues":"x"}', b'{"queues":[7]}', b"[]", b"no JSON"])
def test_a_report_that_makes_no_sense_is_no_reason_to_wait(shop: Shop, report: bytes) -> None:
    task_id, supervisor = shop.submit(), Supervisor(shop)
    supervisor.step(report=report)
    assert reason(shop, task_id) is None


def test_types_that_no_living_pool_knows_are_counted(shop: Shop) -> None:
    assert shop.broker.unknown_types() == {}
    for task_type in ("new", "new", "other"):
        shop.submit(task_type=task_type)
    Supervisor(shop, "old").claim(9)
    assert shop.broker.unknown_types() == {"new": 2, "other": 1}
    Supervisor(shop, "other", types=("other",)).step()
    assert shop.broker.unknown_types() == {"new": 2}
    shop.client.zadd(shop.keys.supervisors, {"other": 1})
    assert shop.broker.unknown_types() == {"new": 2, "other": 1}, "it does not live"


def test_they_are_shown_in_few_words() -> None:
    assert types_in_words({"b": 1, "a": 20}) == "20 of 'a', 1 of 'b'"
    assert types_in_words({f"t{n}": 1 for n in range(7)}).endswith("and of 2 more types")
