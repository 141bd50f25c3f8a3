"""Waiting for tasks to end, on a channel of one's own.

Law: subscribe before saying what one waits for, and ask again each second, so that neither a message lost nor a
connection lost is waited for for ever. Of many tasks some are asked for each second, in turn.
"""

import os
import secrets
import time
from collections.abc import Collection, Iterable, Iterator
from threading import Lock
from typing import Any

import orjson
from redis.exceptions import RedisError

from engine.adapters.redis.wire.connection import Connection, Connections
from engine.adapters.redis.wire.keys import Keys
from engine.adapters.redis.wire.layouts import LAYOUTS
from engine.adapters.waiting_mark import WAITING_THREADS
from engine.core.task.lifecycle import TaskStatus
from engine.errors import BrokerError, BrokerUnavailable, passes

RECHECK_S = 1.0
RECHECK_TASKS = 2_000  # each time
PAUSE_S = 0.05  # before the next try while Redis is away
BATCH_TASKS = 500
IDLE_MAX = 16  # subscribed connections kept for the next wait

Ends = dict[str, str]  # id -> "STATUS outcome" if that came with the news, else ""


class Waiting:
    """Keeps some of the subscribed connections of threads that have waited, for the next ones to wait."""

    def __init__(self, redis: Connections, keys: Keys) -> None:
        self._redis, self._keys = redis, keys
        self._lock = Lock()
        self._pid = os.getpid()
        self._idle: list[_Ear] = []

    def ends(self, task_ids: Iterable[str], until_s: float) -> Iterator[Ends]:
        """Yield tasks as they end, or are found not to exist, until all have or `time.monotonic()` is `until_s`.

        Raises a `BrokerError` if Redis is away at the end of the wait; what happens before that is survived.
        """
        pending = set(task_ids)
        while pending:
            ear, is_fresh = self._take()
            try:
                yield from ear.listen(pending, until_s)
            except BrokerError as error:
                ear.close()
                if not is_fresh:  # the others that lay idle are not better off
                    self.close()
                    continue
                was_let_in = self._redis.version is not None
                if not passes(error, was_let_in=was_let_in) or time.monotonic() + PAUSE_S >= until_s:
                    raise
                time.sleep(PAUSE_S)
                continue
            except BaseException:
                ear.close()
                raise
            self._put_back(ear)
            break

    def hear(self, task_id: str, until_s: float) -> tuple[TaskStatus, dict[str, Any]] | None:
        """Block until it has ended or time is up; return the status and the outcome, if they came with the news."""
        news = next((over[task_id] for over in self.ends([task_id], until_s)), "")
        if not news:
            return None
        status, _, outcome = news.partition(" ")
        return TaskStatus(status), orjson.loads(outcome)

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for ear in idle:
            ear.close()

    def _take(self) -> "tuple[_Ear, bool]":
        """A connection, and whether it is a new one."""
        with self._lock:
            if self._pid != os.getpid():  # forked: the parent goes on listening on those
                self._pid, self._idle = os.getpid(), []
            return (self._idle.pop(), False) if self._idle else (_Ear(self._redis, self._keys), True)

    def _put_back(self, ear: "_Ear") -> None:
        with self._lock:
            if ear.is_quiet and len(self._idle) < IDLE_MAX:
                self._idle.append(ear)
                return
        ear.close()


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

    def listen(self, pending: set[str], until_s: float) -> Iterator[Ends]:
        """Yield those of `pending` that end, and take them out of it, until none is left or time is up."""
        connection = self._connection or self._subscribe()
        yield from self._watch(list(pending), pending)
        recheck_s, unchecked = time.monotonic() + RECHECK_S, list[str]()
        with WAITING_THREADS.waiting():
            while pending:
                now_s = time.monotonic()
                if now_s >= recheck_s:
                    unchecked = unchecked or list(pending)
                    few, unchecked = unchecked[:RECHECK_TASKS], unchecked[RECHECK_TASKS:]
                    yield from self._watch(few, pending)
                    recheck_s = now_s + RECHECK_S
                is_over = now_s >= until_s
                over = self._heard(connection, pending, 0 if is_over else max(0.0, min(recheck_s, until_s) - now_s))
                if over:
                    with WAITING_THREADS.paused():
                        yield over
                if is_over:
                    return

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.disconnect()

    def _heard(self, connection: Connection, pending: set[str], patience_s: float) -> Ends:
        """What is told within `patience_s`, with all that has been told by then, up to a batch."""
        over: Ends = {}
        try:
            while len(over) < BATCH_TASKS and connection.can_read(timeout=0 if over else patience_s):
                ids, _, news = connection.read_response()[2].decode().partition(" ")
                told = ids.split(",")
                self._expected.difference_update(told)
                over |= _taken(told, pending, news)
        except (RedisError, OSError) as error:
            raise BrokerUnavailable(f"lost Redis while waiting: {error}") from error
        return over

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

    def _watch(self, ids: list[str], pending: set[str]) -> Iterator[Ends]:
        """Say that we wait for these; yield those that need not be waited for."""
        layout = LAYOUTS["watch"]
        names = layout.keys(self._keys)
        for start in range(0, len(ids), BATCH_TASKS):
            few = [task_id for task_id in ids[start : start + BATCH_TASKS] if task_id in pending]
            if not few:
                continue
            args = [*layout.args(client=self._name), *few]
            over = [task_id.decode() for task_id in self._redis.run("watch", names, args)]
            self._expected.update(set(few).difference(over))
            if taken := _taken(over, pending):
                yield taken


def _taken(over: Collection[str], pending: set[str], news: str = "") -> Ends:
    """Take those out that are waited for; others are of a wait before this one."""
    ended = {task_id: news for task_id in over if task_id in pending}
    pending.difference_update(ended)
    return ended
