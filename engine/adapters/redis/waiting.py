"""Waiting for tasks to end, on a channel of one's own.

Law: subscribe before saying what one waits for, and ask again each second,
so that neither a message lost nor a connection lost is waited for for ever.
"""

import os
import secrets
import time
from collections.abc import Collection
from itertools import islice
from threading import Lock
from typing import Any

import orjson
from redis.exceptions import RedisError

from engine.adapters.redis.connection import Connection, Connections
from engine.adapters.redis.keys import Keys
from engine.core.lifecycle import TaskStatus
from engine.errors import BrokerError, BrokerUnavailable, passes

RECHECK_S = 1.0
PAUSE_S = 0.05  # before the next try while Redis is away
BATCH_TASKS = 500

Ends = dict[str, str]  # id -> "STATUS outcome" if that came with the news, else ""


class Waiting:
    """Keeps the subscribed connections of threads that have waited, for the next ones to wait."""

    def __init__(self, redis: Connections, keys: Keys) -> None:
        self._redis, self._keys = redis, keys
        self._lock = Lock()
        self._pid = os.getpid()
        self._idle: list[_Ear] = []

    def wait(self, task_ids: Collection[str], until_s: float) -> set[str]:
        """Block until all have ended or `time.monotonic()` is `until_s`; return those that ended or do not exist.

        Raises a `BrokerError` if Redis is away at the end of the wait; what happens before that is survived.
        """
        return set(self._await(task_ids, until_s))

    def hear(self, task_id: str, until_s: float) -> tuple[TaskStatus, dict[str, Any]] | None:
        """Block as `wait` does; return the status and the outcome, if they came with the news of the end."""
        news = self._await([task_id], until_s).get(task_id)
        if not news:
            return None
        status, _, outcome = news.partition(" ")
        return TaskStatus(status), orjson.loads(outcome)

    def _await(self, task_ids: Collection[str], until_s: float) -> Ends:
        pending, ended = set(task_ids), Ends()
        while pending:
            ear = self._take()
            try:
                ear.listen(pending, ended, until_s)
            except BrokerError as error:
                ear.close()
                was_let_in = self._redis.version is not None
                if not passes(error, was_let_in=was_let_in) or time.monotonic() + PAUSE_S >= until_s:
                    raise
                time.sleep(PAUSE_S)
                continue
            except BaseException:
                ear.close()
                raise
            if ear.is_quiet:
                self._put_back(ear)
            else:
                ear.close()
            break
        return ended

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for ear in idle:
            ear.close()

    def _take(self) -> "_Ear":
        with self._lock:
            if self._pid != os.getpid():  # forked: the parent goes on listening on those
                self._pid, self._idle = os.getpid(), []
            return self._idle.pop() if self._idle else _Ear(self._redis, self._keys)

    def _put_back(self, ear: "_Ear") -> None:
        with self._lock:
            self._idle.append(ear)


class _Ear:
    """One client name, and a connection that is subscribed to what is said to it."""

    def __init__(self, redis: Connections, keys: Keys) -> None:
        self._redis, self._keys = redis, keys
        self._name = secrets.token_hex(6)
        self._connection: Connection | None = None
        self._expected: set[str] = set()

    @property
    def is_quiet(self) -> bool:
        """Nothing more will be said to it. Else the news of a task could be taken for that of its next end, once it is
        tried again."""
        return not self._expected

    def listen(self, pending: set[str], ended: Ends, until_s: float) -> None:
        """Move ids from `pending` to `ended` as they end, until none is pending or time is up."""
        connection = self._connection or self._subscribe()
        recheck_s = 0.0
        while pending:
            now_s = time.monotonic()
            if now_s >= recheck_s:
                over = self._watch(pending)
                if not self._expected:
                    self._expected = pending.difference(over)
                _move(over, pending, ended)
                recheck_s = now_s + RECHECK_S
                continue
            if now_s >= until_s:
                return
            try:
                if connection.can_read(timeout=max(0.0, min(recheck_s, until_s) - now_s)):
                    ids, _, news = connection.read_response()[2].decode().partition(" ")
                    over = ids.split(",")
                    self._expected.difference_update(over)
                    _move(over, pending, ended, news)
            except (RedisError, OSError) as error:
                raise BrokerUnavailable(f"lost Redis while waiting: {error}") from error

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.disconnect()

    def _subscribe(self) -> Connection:
        connection = self._redis.open()
        try:
            connection.send_command("SUBSCRIBE", self._keys.done(self._name))
            connection.read_response()
        except (RedisError, OSError) as error:
            connection.disconnect()
            raise BrokerUnavailable(f"lost Redis while subscribing: {error}") from error
        self._connection = connection
        return connection

    def _watch(self, pending: set[str]) -> list[str]:
        """Say what we wait for; return what need not be waited for any more."""
        over: list[str] = []
        rest = iter(pending)
        names = (self._keys.tasks, self._keys.life, self._keys.waiters)
        while few := list(islice(rest, BATCH_TASKS)):
            over += (task_id.decode() for task_id in self._redis.run("watch", names, [self._name, *few]))
        return over


def _move(over: Collection[str], pending: set[str], ended: Ends, news: str = "") -> None:
    for task_id in over:
        if task_id in pending:  # else of a wait before this one
            pending.remove(task_id)
            ended[task_id] = news
