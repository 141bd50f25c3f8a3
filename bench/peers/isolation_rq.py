"""RQ, with one worker that forks for each job: what `bench.peers.isolation_driver` measures of it."""

from typing import Any

import redis
from rq import Queue

from bench import isolation_tasks
from bench.peers.peer import REDIS_URL, python

QUEUES = ("urgent", "default")  # in the order in which the worker looks


class Rq:
    label = "RQ"
    packages = ("rq",)
    has_priorities = True

    def __init__(self) -> None:
        connection = redis.Redis.from_url(REDIS_URL)
        self._queues = {name: Queue(name, connection=connection) for name in QUEUES}

    def commands(self) -> list[list[str]]:
        return [python("rq.cli", "worker", "--url", REDIS_URL, "-q", *QUEUES)]

    def send(self, name: str, *arguments: Any, limit_s: float | None = None, urgent: bool = False) -> None:
        self._queues["urgent" if urgent else "default"].enqueue(
            getattr(isolation_tasks, name), *arguments, job_timeout=int(limit_s or 600))

    def close(self) -> None:
        """The driver ends the workers."""
