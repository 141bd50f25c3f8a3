"""Connections to Redis: a few, shared by the threads of a process, each with a deadline on everything.

Law: this file knows sockets, deadlines and replies; it does not know tasks.
It drives redis-py's `Connection` (TLS, ACL users, handshake, hiredis)
without redis-py's client on top, whose bookkeeping costs as much as the
round trip itself: 104 against 47 µs on a Unix socket.

Everything here raises only `engine.errors`. A command that failed on a
connection that had been lying idle is sent once more on a fresh one: the
server was restarted meanwhile. All our verbs bear being repeated.
"""

import os
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from threading import Lock
from typing import Any, Protocol, cast

import hiredis
from redis import connection as redis_py
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError, ResponseError

from engine.adapters.clock import RedisClock
from engine.adapters.redis import scripts
from engine.adapters.redis.errors import from_redis
from engine.errors import BrokerDenied, BrokerError, BrokerTooOld, InvalidSetting

VERSION_MIN = (6, 2)
IDLE_MAX = 16  # connections kept for the next call; more are opened when more threads call at once
CHECK_AFTER_S = 1.0  # one that lay idle for longer is looked at before it is used again

Argument = str | bytes | int | float
Command = Sequence[Argument]
Invocation = tuple[str, Sequence[str], Command]  # verb, keys, args
_pack = cast(Any, hiredis.pack_command)  # its stub allows tuples of one element only
_POOL_ONLY = ("max_connections", "timeout", "retry_on_timeout", "retry_on_error", "legacy_responses")


class Connection(Protocol):
    """What we use of redis-py's connections, which carry no types."""

    def connect(self) -> None: ...
    def disconnect(self) -> None: ...
    def send_command(self, *command: Argument) -> None: ...
    def send_packed_command(self, command: list[bytes], check_health: bool = ...) -> None: ...
    def can_read(self, timeout: float = ...) -> bool: ...
    def read_response(self) -> Any: ...


class Connections:
    """The way to one Redis.

    1. opens connections when they are needed, keeps them for the next call, forgets them after a fork;
    2. puts a deadline on connecting, sending and receiving;
    3. refuses a Redis that is too old, on the first connection;
    4. keeps the clock in step with Redis's;
    5. makes Ganger's errors of all that can go wrong.
    """

    def __init__(self, url: str, *, timeout_s: float = 2.0) -> None:
        self.url, self.timeout_s = url, timeout_s
        self.clock = RedisClock()
        self.version: tuple[int, ...] | None = None
        self._class, self._settings = _settings(url, timeout_s)
        self._lock = Lock()
        self._pid = os.getpid()
        self._idle: list[tuple[Connection, float]] = []  # with the moment of its last use
        self._closed = False

    def call(self, *command: Argument) -> Any:
        """Send one command and return the reply; the deadline is `timeout_s`."""
        return self.call_all([command])[0]

    def call_all(self, commands: Sequence[Command]) -> list[Any]:
        """Send several commands at once and return their replies. Raises the first error of any."""
        replies = self.calls(commands)
        for reply in replies:
            if isinstance(reply, ResponseError):
                raise from_redis(reply) from reply
        return replies

    def calls(self, commands: Sequence[Command]) -> list[Any]:
        """Send several commands at once and return their replies; the reply to one that failed is the exception."""
        packed = b"".join([_pack(tuple(command)) for command in commands])
        connection, is_fresh = self._take()
        try:
            try:
                return self._exchange(connection, packed, len(commands))
            except (RedisConnectionError, OSError):
                if is_fresh:
                    raise
                connection = self.open()
                return self._exchange(connection, packed, len(commands))
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
            raise from_redis(reply) from reply
        return reply

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
        """Redis's time; asks for it when it was last asked too long ago."""
        if self.clock.is_stale:
            self.calibrate()
        return self.clock.now_ms()

    def calibrate(self) -> None:
        sent_s = time.monotonic()
        seconds, micros = self.call("TIME")
        self.clock.calibrate(int(seconds) * 1000 + int(micros) / 1000, sent_s, time.monotonic())

    def open(self) -> Connection:
        """A new connection, checked and outside of the shared ones; the caller disconnects it."""
        if self._closed:
            raise BrokerError("this broker has been closed")
        connection = cast(Connection, self._class(**self._settings))
        try:
            connection.connect()
            if self.version is None:
                self.version = _checked_version(connection)
        except BrokerError:
            connection.disconnect()
            raise
        except (RedisError, OSError) as error:
            connection.disconnect()
            raise from_redis(error) from error
        return connection

    def close(self) -> None:
        """Close the idle connections; calls from now on are refused."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection, _ in idle:
            connection.disconnect()

    def _take(self) -> tuple[Connection, bool]:
        with self._lock:
            if self._pid != os.getpid():  # forked: the parent goes on using those sockets
                self._pid, self._idle = os.getpid(), []
            found = self._idle.pop() if self._idle else None
        if found is None:
            return self.open(), True
        connection, used_s = found
        if time.monotonic() - used_s > CHECK_AFTER_S and _has_ended(connection):
            connection.disconnect()
            return self.open(), True
        return connection, False

    def _exchange(self, connection: Connection, packed: bytes, count: int) -> list[Any]:
        """Send, read all replies, and put the connection back; one in an unknown state is closed instead."""
        replies: list[Any] = []
        try:
            connection.send_packed_command([packed], check_health=False)
            for _ in range(count):
                try:
                    replies.append(connection.read_response())
                except ResponseError as error:
                    replies.append(error)
        except BaseException:
            connection.disconnect()
            raise
        self._give_back(connection)
        return replies

    def _give_back(self, connection: Connection) -> None:
        with self._lock:
            if not self._closed and len(self._idle) < IDLE_MAX:
                self._idle.append((connection, time.monotonic()))
                return
        connection.disconnect()


def _settings(url: str, timeout_s: float) -> tuple[type[Any], dict[str, Any]]:
    """The class of connection and its arguments. Raises `InvalidSetting` for a URL that makes no sense."""
    try:
        settings: dict[str, Any] = cast(Any, redis_py.parse_url)(url)
        for name in _POOL_ONLY:
            settings.pop(name, None)
        connection_class = settings.pop("connection_class", redis_py.Connection)
        # RESP2: no HELLO, no push messages to tell from replies, and the quicker parser.
        settings |= {"protocol": 2, "socket_timeout": timeout_s, "socket_connect_timeout": timeout_s}
        connection_class(**settings)
    except (ValueError, TypeError) as error:
        raise InvalidSetting(f"redis_url: {error}", field="redis_url",
                             limit="redis://, rediss:// or unix://") from error
    return connection_class, settings


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
