"""What `amend` leaves in Redis."""

import pytest

from engine.adapters.redis.tasks.amend import amend
from engine.core.task.priority import TaskPriority
from engine.errors import ChangedMeanwhile
from tests.scripts.broker_rig import HOUR_MS, BrokerRig


def test_it_changes_the_record_and_the_line(rig: BrokerRig) -> None:
    task_id = rig.submit()
    before = rig.broker.read([task_id])[0]
    amend(rig.broker.redis, rig.keys, task_id, {"name": "new", "timeout": 5.0}, TaskPriority.URGENT,
          {before.version}, kept_ms=HOUR_MS)
    after = rig.broker.read([task_id])[0]
    assert (after.record.options, after.state.priority) == ({"name": "new", "timeout": 5.0}, TaskPriority.URGENT)
    assert rig.client.zrange(rig.keys.lane("q", TaskPriority.URGENT), 0, -1) == [task_id.encode()]
    assert rig.client.zcard(rig.keys.lane("q", TaskPriority.NORMAL)) == 0
    assert after.version != before.version


def test_what_is_taken_away_is_not_kept(rig: BrokerRig) -> None:
    task_id = rig.submit(fair_key="a")
    amend(rig.broker.redis, rig.keys, task_id, {"name": "new"}, None, kept_ms=HOUR_MS)
    amend(rig.broker.redis, rig.keys, task_id, {"name": None}, None, kept_ms=HOUR_MS)
    assert rig.broker.read([task_id])[0].record.options == {"fair_key": "a"}


def test_another_version_changes_nothing(rig: BrokerRig) -> None:
    task_id = rig.submit()
    with pytest.raises(ChangedMeanwhile):
        rig.unchanged(lambda: amend(
            rig.broker.redis, rig.keys, task_id, {"name": "x"}, None, {"0"}, kept_ms=HOUR_MS))


def test_a_queued_task_gets_another_priority_from_a_redis_that_is_full(rig: BrokerRig) -> None:
    task_id = rig.submit()
    rig.client.config_set("maxmemory", 1)
    try:
        rig.broker.set_priority(task_id, TaskPriority.NORMAL)
        rig.broker.set_priority(task_id, TaskPriority.URGENT)
    finally:
        rig.client.config_set("maxmemory", 0)
    assert rig.state(task_id).priority is TaskPriority.URGENT
