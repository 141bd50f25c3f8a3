"""Celery, with prefork and one child: what `bench.peers.isolation_driver` measures of it."""

from typing import Any

import celery

from bench import isolation_tasks
from bench.peers.peer import REDIS_URL, python

app = celery.Celery("isolation", broker=REDIS_URL, backend=REDIS_URL)
app.conf.update(worker_prefetch_multiplier=1, task_acks_late=False, worker_enable_remote_control=False,
                broker_transport_options={"queue_order_strategy": "priority", "priority_steps": [0, 9], "sep": ":"})
TASKS = {name: app.task(name=name)(getattr(isolation_tasks, name))
         for name in ("loop", "deaf", "in_c", "family", "spin", "moment", "abort")}


class Celery:
    label = "Celery prefork"
    packages = ("celery",)
    has_priorities = True

    def commands(self) -> list[list[str]]:
        return [python("celery", "-A", "bench.peers.isolation_celery", "worker", "--pool", "prefork", "-c", "1",
                       "--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "CRITICAL")]

    def send(self, name: str, *arguments: Any, limit_s: float | None = None, urgent: bool = False) -> None:
        TASKS[name].apply_async(arguments, time_limit=limit_s, priority=0 if urgent else 9)

    def close(self) -> None:
        """The driver ends the workers."""
