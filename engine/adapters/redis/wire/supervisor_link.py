"""One non-blocking connection to Redis, for a supervisor whose loop must never wait.

redis-py does the handshake (address, TLS, user, protocol), in a thread of its
own, since that may take as long as the network likes; from then on the socket
is ours: commands are packed and replies parsed by hiredis, in the order in
which they were sent, and pushes (RESP3) come in between on the same socket.
Knows nothing of tasks.
"""

import contextlib
import socket
import ssl
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import hiredis
import redis

from engine.adapters.clock import RedisClock
from engine.adapters.redis.wire import scripts
from engine.adapters.redis.wire.handshake import NOTHING, READ_BYTES, Handshake, new_reader
from engine.config.urls import FOLLOWING
from engine.ports.poller import READ, WRITE, Poller


@dataclass(frozen=True, slots=True)
class Connected:
    """The link is up, subscribed, and the clock is set by this server's."""


@dataclass(frozen=True, slots=True)
class Lost:
    """The link broke; `unanswered` are the tags of commands whose fate is unknown."""

    reason: str
    unanswered: list[object]


@dataclass(frozen=True, slots=True)
class Answered:
    tag: object
    reply: Any  # a `hiredis.ReplyError` where Redis refused


@dataclass(frozen=True, slots=True)
class Pushed:
    message: bytes


LinkEvent = Connected | Lost | Answered | Pushed


@dataclass(frozen=True, slots=True)
class _Calibration:
    sent_s: float


@dataclass(slots=True)
class _Pending:
    tag: object
    sent_s: float
    script: tuple[str, Sequence[Any]] | None  # verb and its arguments, to send whole if the server forgot it


class SupervisorLink:
    """Connects again by itself, after a pause that doubles up to `pause_s_max`.

    `schema_key`: where the format of the data stands; it connects to none that we do not know.

    `url`: redis://, rediss:// or unix://. `channel`: what to subscribe to. `timeout_s`: bound on the handshake, and
    on the wait for a reply before the connection is given up.
    """

    def __init__(self, url: str, channel: str, clock: RedisClock, poller: Poller, *, timeout_s: float = 10.0,
                 pause_s: float = 0.05, pause_s_max: float = 1.0, schema_key: str = "") -> None:
        self._schema_key = schema_key
        self.url, self.channel, self.clock, self.poller = url, channel, clock, poller
        self.timeout_s, self.pause_s, self.pause_s_max = timeout_s, pause_s, pause_s_max
        self._follows = url.partition(":")[0] in FOLLOWING
        self.up = False
        self._events: list[LinkEvent] = []
        self._pending: deque[_Pending] = deque()
        self._socket: socket.socket | None = None
        self._connection: Any = None
        self._reader = new_reader()
        self._unsent = b""
        self._wants_write = False
        self._setting_clock = False
        self._pause_s = pause_s
        self._retry_s: float | None = time.monotonic()
        self._handshake: Handshake | None = None
        self._closed = False

    # -- what the supervisor calls --------------------------------------------------------------------------------

    def send(self, tag: object, *command: Any) -> None:
        """Send one command; its reply comes as `Answered(tag, …)`, or the tag in `Lost`."""
        self._put(_Pending(tag, time.monotonic(), None), hiredis.pack_command(command))

    def run(self, tag: object, verb: str, keys: Sequence[str], args: Sequence[Any]) -> None:
        """Run a script, as `send` does a command."""
        tail = (len(keys), *keys, *args)
        self._put(_Pending(tag, time.monotonic(), (verb, tail)),
                  hiredis.pack_command(("EVALSHA", scripts.sha(verb), *tail)))

    def events(self) -> list[LinkEvent]:
        """What has happened since the last call."""
        events, self._events = self._events, []
        return events

    def next_deadline_s(self) -> float:
        if self.up:
            return self._pending[0].sent_s + self.timeout_s if self._pending else float("inf")
        return float("inf") if self._retry_s is None else self._retry_s

    def tick(self, now_s: float) -> None:
        if self.up:
            if self._pending and now_s >= self._pending[0].sent_s + self.timeout_s:
                self._lose(f"no answer for {self.timeout_s:g} s")
            elif self.clock.is_stale and not self._setting_clock:
                self._setting_clock = True
                self.send(_Calibration(now_s), "TIME")
        elif self._retry_s is not None and now_s >= self._retry_s and not self._closed:
            self._shake()

    def give_up(self, reason: str, *tags: object) -> None:
        """Close the connection, say since the answer to a tag makes no sense, and connect again; `Lost` follows."""
        unanswered = [*tags, *(pending.tag for pending in self._pending)]
        if self.up:
            self._drop()
            self._wait_before_retry()
        self._events.append(Lost(reason, unanswered))

    def close(self) -> None:
        self._closed, self._retry_s = True, None
        if self._handshake is not None:
            self._handshake.abandon()
        self._drop()

    # -- connecting -----------------------------------------------------------------------------------------------

    def _shake(self) -> None:
        self._retry_s = None
        try:
            self._handshake = Handshake(self.url, self.channel, self.clock, self.poller, self.timeout_s, self._shaken,
                                        self._schema_key)
        except (OSError, RuntimeError) as error:  # no descriptor, or no thread, to be had just now
            self._events.append(Lost(f"no connection can be begun: {error}", []))
            self._wait_before_retry()

    def _shaken(self, handshake: Handshake) -> None:
        """It is done, well or badly."""
        self._handshake = None
        if handshake.error is not None:
            self._events.append(Lost(handshake.error, []))
            self._wait_before_retry()
            return
        self._connection, self._socket = handshake.connection, handshake.socket
        assert self._socket is not None
        self._socket.setblocking(False)
        self._reader = new_reader()
        self._unsent, self._wants_write, self._setting_clock = b"", False, False
        self._pause_s, self.up = self.pause_s, True
        self.poller.register(self._socket.fileno(), self._ready)
        self._events.append(Connected())

    def _wait_before_retry(self) -> None:
        self._retry_s = time.monotonic() + self._pause_s
        self._pause_s = min(self._pause_s * 2, self.pause_s_max)

    def _lose(self, reason: str) -> None:
        unanswered = [pending.tag for pending in self._pending]
        self._drop()
        self._events.append(Lost(reason, unanswered))
        self._wait_before_retry()

    def _drop(self) -> None:
        self.up = False
        self._pending.clear()
        if self._socket is not None:
            self.poller.unregister(self._socket.fileno())
            self._socket = None
        if self._connection is not None:
            with contextlib.suppress(OSError, redis.RedisError):
                self._connection.disconnect()
            self._connection = None

    # -- the socket -----------------------------------------------------------------------------------------------

    def _put(self, pending: _Pending, packed: bytes) -> None:
        if not self.up:
            self._events.append(Lost("not connected", [pending.tag]))
            return
        self._pending.append(pending)
        if self._unsent:
            self._unsent += packed
        else:
            self._unsent = packed
            self._flush()

    def _flush(self) -> None:
        assert self._socket is not None
        data = memoryview(self._unsent)
        try:
            while data:
                data = data[self._socket.send(data):]
        except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
            pass
        except OSError as error:
            self._lose(f"{type(error).__name__}: {error}")
            return
        self._unsent = bytes(data)
        if bool(data) is not self._wants_write:
            self._wants_write = bool(data)
            self.poller.modify(self._socket.fileno(), READ | WRITE if data else READ)

    def _ready(self, mask: int) -> None:
        if self._socket is not None and mask & WRITE:
            self._flush()
        if self._socket is not None and mask & ~WRITE:
            self._read()

    def _read(self) -> None:
        assert self._socket is not None
        try:
            while True:
                data = self._socket.recv(READ_BYTES)
                if not data:
                    self._lose("Redis closed the connection")
                    return
                self._reader.feed(data)
                if len(data) < READ_BYTES and not self._has_buffered():
                    break
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        except OSError as error:
            self._lose(f"{type(error).__name__}: {error}")
            return
        self._take_replies()

    def _has_buffered(self) -> bool:
        """TLS may hold decrypted bytes that the poller cannot see."""
        return isinstance(self._socket, ssl.SSLSocket) and self._socket.pending() > 0

    def _take_replies(self) -> None:
        """Until there is none left, or the connection is lost: sending a script whole may find it closed."""
        while self.up:
            try:
                reply = self._reader.gets()
            except hiredis.ProtocolError as error:
                self._lose(f"not the Redis protocol: {error}")
                return
            if reply is NOTHING:
                return
            if isinstance(reply, hiredis.PushNotification):
                if len(reply) == 3 and reply[0] == b"message":
                    self._events.append(Pushed(reply[2]))
                continue
            if self._is_elsewhere(reply):
                self._lose(f"the master is another now: {reply}")
                return
            if not self._pending:
                self._lose(f"an answer that nobody asked for: {reply!r:.100}")
                return
            pending = self._pending.popleft()
            if pending.script and isinstance(reply, hiredis.ReplyError) and str(reply).startswith("NOSCRIPT"):
                verb, tail = pending.script
                self._put(_Pending(pending.tag, time.monotonic(), None),
                          hiredis.pack_command(("EVAL", scripts.source(verb), *tail)))
            elif isinstance(pending.tag, _Calibration):
                self._set_clock(pending.tag, reply)
            else:
                self._events.append(Answered(pending.tag, reply))

    def _set_clock(self, asked: _Calibration, reply: Any) -> None:
        self._setting_clock = False
        try:
            seconds, microseconds = map(int, reply)
        except (ValueError, TypeError):
            self._lose(f"Redis does not tell the time: {reply!r:.100}")
            return
        self.clock.calibrate(seconds * 1000 + microseconds / 1000, asked.sent_s, time.monotonic())

    def _is_elsewhere(self, reply: Any) -> bool:
        """Whether our keys are on another server now, where the next connection will be."""
        return isinstance(reply, hiredis.ReplyError) and self._follows and (
            str(reply).startswith("MOVED ") or "READONLY " in str(reply))
