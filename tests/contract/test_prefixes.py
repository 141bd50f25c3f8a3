"""A prefix of keys may be any that the settings accept, also one that looks like a part of a key."""

import pytest

from engine.client import Client
from engine.client.operations import TaskOperations
from engine.client.provider import RedisBrokerProvider
from engine.config import load_settings
from engine.core.task.lifecycle import TaskStatus
from engine.core.task.query import TaskQuery


@pytest.mark.parametrize("prefix", ["acme:running:jobs", "a:lane:q:NORMAL", "x:tasks", "round_robin:LOW"])
def test_tasks_are_found_and_counted_below_any_prefix(redis_url: str, prefix: str) -> None:
    settings = load_settings({"redis_url": redis_url, "queue_prefix": prefix}).settings
    provider = RedisBrokerProvider(settings)
    with Client(settings=settings, provider=provider) as client:
        task_id = client.submit("anything")
        for statuses in ((), (TaskStatus.QUEUED,), (TaskStatus.QUEUED, TaskStatus.RUNNING, TaskStatus.FAILED)):
            found = TaskOperations(client, provider).search(TaskQuery(statuses=statuses), 10)
            assert [task.id for task in found.tasks] == [task_id]
        assert [(stats.queue, stats.total) for stats in client.queue_stats()] == [("default", 1)]
        client.set_priority(task_id, "URGENT")
        assert client.queue_stats()[0].queued["URGENT"] == 1
