"""What `amend` leaves in Redis."""

import pytest

from engine.adapters.redis.tasks.amend import amend
from engine.core.task.priority import TaskPriority
from engine.errors import ChangedMeanwhile
from tests.scripts.shop import HOUR_MS, Shop


def test_it_changes_the_record_and_the_line(shop: Shop) -> None:
    task_id = shop.submit()
    before = shop.broker.read([task_id])[0]
    amend(shop.broker.redis, shop.keys, task_id, {"name": "new", "timeout": 5.0}, TaskPriority.URGENT,
          {before.version}, kept_ms=HOUR_MS)
    after = shop.broker.read([task_id])[0]
    assert (after.record.options, after.state.priority) == ({"name": "new", "timeout": 5.0}, TaskPriority.URGENT)
    assert shop.client.zrange(shop.keys.lane("q", TaskPriority.URGENT), 0, -1) == [task_id.encode()]
    assert shop.client.zcard(shop.keys.lane("q", TaskPriority.NORMAL)) == 0
    assert after.version != before.version


def test_what_is_taken_away_is_not_kept(shop: Shop) -> None:
    task_id = shop.submit(fair_key="a")
    amend(shop.broker.redis, shop.keys, task_id, {"name": "new"}, None, kept_ms=HOUR_MS)
    amend(shop.broker.redis, shop.keys, task_id, {"name": None}, None, kept_ms=HOUR_MS)
    assert shop.broker.read([task_id])[0].record.options == {"fair_key": "a"}


def test_another_version_changes_nothing(shop: Shop) -> None:
    task_id = shop.submit()
    with pytest.raises(ChangedMeanwhile):
        shop.unchanged(lambda: amend(
            shop.broker.redis, shop.keys, task_id, {"name": "x"}, None, {"0"}, kept_ms=HOUR_MS))
