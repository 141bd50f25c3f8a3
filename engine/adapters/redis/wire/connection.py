"""Connections to Redis: a few, shared by the threads of a process, each with a deadline on everything.

Law: this file knows sockets, deadlines and replies; it does not know tasks.
It drives redis-py's `Connection` (TLS, ACL users, handshake, hiredis)
without redis-py's client on top, whose bookkeeping costs as much as the
round trip itself: 104 against 47 µs on a Unix socket.

Everything here raises only `engine.errors`. A command that failed on a
connection that had been lying idle is sent once more on a fresh one: the
server was restarted meanwhile. All our verbs bear being repeated; `repeats`
counts such calls, for callers that must say what became of a verb.
"""

import os
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from threading import Lock
from typing import Any, Protocol, cast

import hiredis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import MovedError, NoScriptError, ReadOnlyError, RedisError, ResponseError

from engine.adapters.clock import RedisClock
from engine.adapters.redis.wire import key_types, scripts
from engine.adapters.redis.wire.addresses import Address, address, check_role
from engine.adapters.redis.wire.errors import from_redis
from engine.adapters.redis.wire.layouts import Argument
from engine.config import urls
from engine.core.store import schema
from engine.core.store.storage import is_of_wrong_type
from engine.errors import BrokerDenied, BrokerError, BrokerTooOld, InvalidSetting, SchemaMismatch

VERSION_MIN = (6, 2)
IDLE_MAX = 16  # connections kept for the next call; more are opened when more threads call at once
CHECK_AFTER_S = 1.0  # one that lay idle for longer is looked at before it is used again

Command = Sequence[Argument]
Invocation = tuple[str, Sequence[str], Command]  # verb, keys, args
_pack = cast(Any, hiredis.pack_command)  # its stub allows tuples of one element only


class Connection(Protocol):
    """What we use of redis-py's connections, which carry no types."""

    def connect(self) -> None: ...
    def disconnect(self) -> None: ...
    def send_command(self, *command: Argument) -> None: ...
    def send_packed_command(self, command: list[bytes], check_health: bool = ...) -> None: ...
    def can_read(self, timeout: float = ...) -> bool: ...
    def read_response(self) -> Any: ...

    _sock: Any


class _Calls(threading.local):
    """Of one thread: how long it has waited for what its next call needs, and how many of its calls were sent twice."""

    late_s = 0.0
    repeats = 0


class Connections:
    """The way to one Redis.

    1. opens connections when they are needed, keeps them for the next call, forgets them after a fork;
    2. puts one deadline on all that a call waits for: the time, the connection, the answer, and a second try;
    3. refuses a Redis that is too old, on the first connection, and data of a format that we do not know, on each;
    4. keeps the clock in step with Redis's;
    5. makes Ganger's errors of all that can go wrong.
    """

    def __init__(self, url: str, *, timeout_s: float = 2.0, schema_key: str = "") -> None:
        self.url, self.timeout_s, self._schema_key = url, timeout_s, schema_key
        self.clock = RedisClock()
        self.version: tuple[int, ...] | None = None
        self._address = _address(url, timeout_s)
        self._lock = Lock()
        self._calls = _Calls()
        self._pid = os.getpid()
        self._idle: list[tuple[Connection, float]] = []  # with the moment of its last use
        self._closed = False

    def call(self, *command: Argument) -> Any:
        """Send one command and return the reply; the deadline is `timeout_s`."""
        return self.call_all([command])[0]

    def call_all(self, commands: Sequence[Command]) -> list[Any]:
        """Send several commands at once and return their replies. Raises the first error of any."""
        replies = self.calls(commands)
        for command, reply in zip(commands, replies, strict=True):
            if isinstance(reply, ResponseError):
                raise self._error(reply, command[1:2]) from reply
        return replies

    def calls(self, commands: Sequence[Command]) -> list[Any]:
        """Send several commands at once and return their replies; the reply to one that failed is the exception."""
        packed = b"".join([_pack(tuple(command)) for command in commands])
        late_s, self._calls.late_s = self._calls.late_s, 0.0
        until_s = time.monotonic() + self.timeout_s - late_s
        connection, is_fresh = self._take(until_s)
        try:
            try:
                replies = self._exchange(connection, packed, len(commands), until_s if is_fresh or late_s else None)
                if not (self._address.follows and any(map(is_elsewhere, replies))):
                    return replies
                self._forget_idle()  # the master is another now, and has not been written to
            except (RedisConnectionError, OSError):
                if is_fresh:
                    raise
                self._calls.repeats += 1
            connection = self.open(until_s)
            return self._exchange(connection, packed, len(commands), until_s)
        except BrokerError:
            raise
        except (RedisError, OSError) as error:
            raise from_redis(error) from error

    def run(self, verb: str, keys: Sequence[str], args: Command) -> Any:
        """Run a script; a server that does not know it (restart, SCRIPT FLUSH) gets its whole text."""
        reply = self.calls([("EVALSHA", scripts.sha(verb), len(keys), *keys, *args)])[0]
        if isinstance(reply, NoScriptError):
            reply = self.calls([("EVAL", scripts.source(verb), len(keys), *keys, *args)])[0]
        if isinstance(reply, ResponseError):
            raise self._error(reply, keys) from reply
        return reply

    def _error(self, reply: ResponseError, keys: Sequence[Argument]) -> BrokerError:
        """What it says; where a key is of the wrong type, which one."""
        base = self._schema_key.removesuffix("schema")
        if not base or not is_of_wrong_type(reply):
            return from_redis(reply)
        return key_types.error_naming(self.calls, base, [key for key in keys if isinstance(key, str)])

    def run_stream(self, invocations: Iterable[Invocation]) -> Iterator[Any]:
        """Run scripts one after the other, preparing the next while Redis is at work on one; yield the replies."""
        rest = iter(invocations)
        for verb, keys, args in islice(rest, 1):
            yield self.run(verb, keys, args)
        second = next(rest, None)
        if second is None:
            return
        connection, _ = self._take()
        waiting: deque[Invocation] = deque()
        try:
            for invocation in chain((second,), rest):
                verb, keys, args = invocation
                packed = _pack(("EVALSHA", scripts.sha(verb), len(keys), *keys, *args))
                connection.send_packed_command([packed], check_health=False)
                waiting.append(invocation)
                if len(waiting) > 1:
                    yield self._next_reply(connection, waiting)
            while waiting:
                yield self._next_reply(connection, waiting)
        except BaseException as error:
            connection.disconnect()
            if isinstance(error, RedisError | OSError) and not isinstance(error, BrokerError):
                raise from_redis(error) from error
            raise
        self._give_back(connection)

    def _next_reply(self, connection: Connection, waiting: deque[Invocation]) -> Any:
        invocation = waiting.popleft()
        try:
            return connection.read_response()
        except NoScriptError:
            return self.run(*invocation)

    def now_ms(self) -> int:
        """Redis's time; asks for it when it was last asked too long ago, at the cost of the call that needs it."""
        if self.clock.is_stale:
            began_s = time.monotonic()
            self.calibrate()
            self._calls.late_s = time.monotonic() - began_s
        return self.clock.now_ms()

    def calibrate(self) -> None:
        sent_s = time.monotonic()
        seconds, micros = self.call("TIME")
        self.clock.calibrate(int(seconds) * 1000 + int(micros) / 1000, sent_s, time.monotonic())

    @property
    def repeats(self) -> int:
        """How many calls of this thread were sent twice, so that the first may have been heard and its answer lost."""
        return self._calls.repeats

    def open(self, until_s: float | None = None) -> Connection:
        """A new connection, checked and outside of the shared ones; the caller disconnects it.

        `until_s` bounds the whole; without it `timeout_s` bounds each wait.
        """
        if self._closed:
            raise BrokerError("this broker has been closed")
        address = self._address
        try:
            bounds = {} if until_s is None else dict.fromkeys(("socket_timeout", "socket_connect_timeout"),
                                                              _left_s(until_s))
            connection = cast(Connection, address.made_by(**{**address.found(), **bounds}))
        except (RedisError, OSError) as error:
            raise from_redis(error) from error
        try:
            connection.connect()
            if until_s is not None:
                _set_timeout(connection, _left_s(until_s))
            if address.follows:
                check_role(connection)
            if self.version is None:
                self.version = _checked_version(connection)
            if self._schema_key:
                check_schema(self._read_schema(connection))
        except BrokerError:
            connection.disconnect()
            raise
        except (RedisError, OSError) as error:
            connection.disconnect()
            raise from_redis(error) from error
        return connection

    def _read_schema(self, connection: Connection) -> bytes | None:
        """The format as stored. Versions from before there was such a key are told by the key of their states."""
        connection.send_command("GET", self._schema_key)
        try:
            stored = cast("bytes | None", connection.read_response())
            if stored is None:
                connection.send_command("EXISTS", self._schema_key.removesuffix("schema") + schema.FORMAT_1_KEY)
                stored = schema.FORMAT_1 if connection.read_response() else None
            return stored
        except ResponseError as error:
            if is_of_wrong_type(error):
                raise BrokerError(f"the key {self._schema_key} is not the string that the engine keeps there: something"
                                  " else has written to it. Delete it where all else is as it was") from error
            raise

    def close(self) -> None:
        """Close the idle connections; calls from now on are refused."""
        self._closed = True
        self._forget_idle()

    def _forget_idle(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for connection, _ in idle:
            connection.disconnect()

    def _take(self, until_s: float | None = None) -> tuple[Connection, bool]:
        with self._lock:
            if self._pid != os.getpid():  # forked: the parent goes on using those sockets
                self._pid, self._idle = os.getpid(), []
            found = self._idle.pop() if self._idle else None
        if found is None:
            return self.open(until_s), True
        connection, used_s = found
        if time.monotonic() - used_s > CHECK_AFTER_S and _has_ended(connection):
            connection.disconnect()
            return self.open(until_s), True
        return connection, False

    def _exchange(self, connection: Connection, packed: bytes, count: int, until_s: float | None = None) -> list[Any]:
        """Send, read all replies, and put the connection back; one in an unknown state is closed instead.

        `until_s`: where less than `timeout_s` is left.
        """
        replies: list[Any] = []
        try:
            if until_s is not None:
                _set_timeout(connection, _left_s(until_s))
            connection.send_packed_command([packed], check_health=False)
            for _ in range(count):
                try:
                    replies.append(connection.read_response())
                except ResponseError as error:
                    replies.append(error)
        except BaseException:
            connection.disconnect()
            raise
        if until_s is not None:
            _set_timeout(connection, self.timeout_s)
        self._give_back(connection)
        return replies

    def _give_back(self, connection: Connection) -> None:
        with self._lock:
            if not self._closed and len(self._idle) < IDLE_MAX:
                self._idle.append((connection, time.monotonic()))
                return
        connection.disconnect()


def check_schema(stored: bytes | None) -> None:
    """Raises `SchemaMismatch`."""
    reason = schema.refusal(stored)
    if reason is not None:
        raise SchemaMismatch(reason)


def _left_s(until_s: float) -> float:
    """Raises `TimeoutError` when nothing is left."""
    left_s = until_s - time.monotonic()
    if left_s <= 0:
        raise TimeoutError("the time for the whole call is over")
    return left_s


def _set_timeout(connection: Connection, timeout_s: float) -> None:
    connection._sock.settimeout(timeout_s)


def _address(url: str, timeout_s: float) -> Address:
    """Raises `InvalidSetting` for a URL that makes no sense."""
    try:
        return address(url, timeout_s)
    except (ValueError, TypeError) as error:
        raise InvalidSetting(f"redis_url: {error}", field="redis_url", limit=urls.LIMIT) from error


def is_elsewhere(reply: object) -> bool:
    """Whether it says that the master of our keys is another: nothing has been written then."""
    return isinstance(reply, MovedError | ReadOnlyError) or (
        isinstance(reply, ResponseError) and "READONLY " in str(reply))


def _has_ended(connection: Connection) -> bool:
    """Whether the server has closed it, or it has something to read that nobody asked for."""
    try:
        return bool(connection.can_read(timeout=0))
    except (RedisError, OSError):
        return True


def _checked_version(connection: Connection) -> tuple[int, ...]:
    """The server's version; raises `BrokerTooOld`. A user who may not ask is believed to know."""
    connection.send_command("INFO", "server")
    try:
        text = connection.read_response().decode()
    except ResponseError as error:
        denied = from_redis(error)
        if isinstance(denied, BrokerDenied) and "NOAUTH" not in str(error):
            return VERSION_MIN
        raise denied from error
    line = next((line for line in text.splitlines() if line.startswith("redis_version:")), "redis_version:0")
    version = tuple(int(part) for part in line.partition(":")[2].split(".") if part.isdigit())
    if version < VERSION_MIN:
        raise BrokerTooOld(f"Redis is {'.'.join(map(str, version))}, and must be 6.2 or later")
    return version
