"""Waits for tasks to end, on a channel that each waiting client has.

A client subscribes before it says which tasks it waits for, and asks again each second, so that a lost message or
connection delays it by a second only. Of many tasks it asks for some each second, in turn.
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

Ends = dict[str, str]  # id -> "STATUS outcome" if the message had it, else ""


class EndWaiter:
    """Keeps some subscriptions of threads that have waited, for the threads that wait next."""

    def __init__(self, redis: Connections, keys: Keys) -> None:
        self._redis, self._keys = redis, keys
        self._lock = Lock()
        self._pid = os.getpid()
        self._idle: list[_Subscription] = []

    def ends(self, task_ids: Iterable[str], until_s: float) -> Iterator[Ends]:
        """Yield tasks as they end, or are found not to exist, until all have or `time.monotonic()` is `until_s`.

        Raises `BrokerError` if Redis is away at the end of the wait. Before that, the wait goes on.
        """
        pending = set(task_ids)
        while pending:
            subscription, is_fresh = self._take()
            try:
                yield from subscription.listen(pending, until_s)
            except BrokerError as error:
                subscription.close()
                if not is_fresh:  # the other idle ones have lost their connections too
                    self.close()
                    continue
                was_let_in = self._redis.version is not None
                if not passes(error, was_let_in=was_let_in) or time.monotonic() + PAUSE_S >= until_s:
                    raise
                time.sleep(PAUSE_S)
                continue
            except BaseException:
                subscription.close()
                raise
            self._put_back(subscription)
            break

    def await_end(self, task_id: str, until_s: float) -> tuple[TaskStatus, dict[str, Any]] | None:
        """Block until the task has ended or time is up; return status and outcome, if the message had them."""
        message = next((over[task_id] for over in self.ends([task_id], until_s)), "")
        if not message:
            return None
        status, _, outcome = message.partition(" ")
        return TaskStatus(status), orjson.loads(outcome)

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for subscription in idle:
            subscription.close()

    def _take(self) -> "tuple[_Subscription, bool]":
        """A connection, and whether it is a new one."""
        with self._lock:
            if self._pid != os.getpid():  # forked: the parent still listens on those
                self._pid, self._idle = os.getpid(), []
            return (self._idle.pop(), False) if self._idle else (_Subscription(self._redis, self._keys), True)

    def _put_back(self, subscription: "_Subscription") -> None:
        with self._lock:
            if subscription.is_quiet and len(self._idle) < IDLE_MAX:
                self._idle.append(subscription)
                return
        subscription.close()


class _Subscription:
    """A name for this waiting client, and a connection that is subscribed to the channel of that name."""

    def __init__(self, redis: Connections, keys: Keys) -> None:
        self._redis, self._keys = redis, keys
        self._name = secrets.token_hex(6)
        self._connection: Connection | None = None
        self._expected: set[str] = set()

    @property
    def is_quiet(self) -> bool:
        """Whether no more messages will come. A late one could be taken for the next end of a task that is retried."""
        return not self._expected

    def listen(self, pending: set[str], until_s: float) -> Iterator[Ends]:
        """Yield the tasks of `pending` that end, and remove them from it, until none is left or time is up."""
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

    def _heard(self, connection: Connection, pending: set[str], timeout_s: float) -> Ends:
        """Return the ends that arrive within `timeout_s`, up to a batch."""
        over: Ends = {}
        try:
            while len(over) < BATCH_TASKS and connection.can_read(timeout=0 if over else timeout_s):
                ids, _, end = connection.read_response()[2].decode().partition(" ")
                ended = ids.split(",")
                self._expected.difference_update(ended)
                over |= _take_out(ended, pending, end)
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
        """Tell Redis that this client waits for these tasks; yield those that have ended already."""
        layout = LAYOUTS["watch"]
        names = layout.keys(self._keys)
        for start in range(0, len(ids), BATCH_TASKS):
            few = [task_id for task_id in ids[start : start + BATCH_TASKS] if task_id in pending]
            if not few:
                continue
            args = [*layout.args(client=self._name), *few]
            over = [task_id.decode() for task_id in self._redis.run("watch", names, args)]
            self._expected.update(set(few).difference(over))
            if taken := _take_out(over, pending):
                yield taken


def _take_out(over: Collection[str], pending: set[str], end: str = "") -> Ends:
    """Remove the tasks that have ended from `pending`, and return those; the others are of an earlier wait."""
    ended = {task_id: end for task_id in over if task_id in pending}
    pending.difference_update(ended)
    return ended
