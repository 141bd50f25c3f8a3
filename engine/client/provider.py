"""How clients and commands get to Redis: the one module above the adapters that imports that of Redis for them.

A client's connection is opened at first use, again after a fork, and closed once:

1. Where no `redis_url` is set it is a user of the embedded Redis of `data_dir`.
2. A child of os.fork gets a broker of its own; the parent's is left alone, since both share its sockets.
3. While modules and the main script are executed in the fork server, using it ends that: what they would submit is
   submitted by the real process.
"""

import os
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from engine.adapters.redis.embedded.server import EmbeddedRedis, open_embedded
from engine.adapters.redis.tasks.broker import RedisClientBroker, connect
from engine.config import Settings
from engine.errors import GangerError
from engine.ports.engine_broker import EngineBroker
from engine.tasks.import_guard import check_use


class RedisBrokerProvider:
    """Holds the broker of one client. Thread-safe."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._lock = Lock()
        self._broker: RedisClientBroker | None = None
        self._embedded: EmbeddedRedis | None = None
        self._closed = False
        _ALL.add(self)

    def broker(self) -> RedisClientBroker:
        """The broker, connected. Raises `BrokerError` or, where the embedded Redis does not start, `EngineError`."""
        return self._broker or self._open()

    def now_ms(self) -> int:
        """Redis's time; asked for again twice a minute, so that a host that slept does not date tasks wrongly."""
        return self.broker().redis.now_ms()

    def now_s(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def close(self) -> None:
        """Close the connections, and stop being a user of the embedded Redis."""
        with self._lock:
            self._closed = True
            broker, self._broker = self._broker, None
            embedded, self._embedded = self._embedded, None
        if broker is not None:
            broker.close()
        if embedded is not None:
            embedded.close()

    def _open(self) -> RedisClientBroker:
        check_use("a Client")
        with self._lock:
            if self._closed:
                raise GangerError("this client has been closed")
            if self._broker is None:
                settings = self.settings
                if settings.redis_url is None:
                    if self._embedded is None:
                        self._embedded = open_embedded(settings.data_dir, settings.redis_binary)
                    settings = settings.model_copy(update={"redis_url": self._embedded.url})
                self._broker = connect(settings)
            return self._broker

    def forget(self) -> None:
        """In the child of a fork: what was open belongs to the parent."""
        _PARENTS.append((self._broker, self._embedded))
        self._lock = Lock()  # a thread of the parent may have held it
        self._broker = self._embedded = None


def connected(settings: Settings) -> EngineBroker:
    """A broker for settings that name a Redis, after one round trip to it. The caller closes it. Raises `BrokerError`.
    """
    return connect(settings)


@contextmanager
def reachable(settings: Settings) -> Iterator[Settings]:
    """The settings, with the URL of a Redis. While inside, this process is a user of the embedded one, if that is it.

    Raises `EngineError` where the embedded Redis does not start.
    """
    if settings.redis_url is not None:
        yield settings
        return
    with open_embedded(settings.data_dir, settings.redis_binary) as embedded:
        yield settings.model_copy(update={"redis_url": embedded.url})


_ALL: "weakref.WeakSet[RedisBrokerProvider]" = weakref.WeakSet()
_PARENTS: list[object] = []  # kept, so that no finaliser closes what the parent still uses


def _forget_all() -> None:
    for reach in list(_ALL):
        reach.forget()


os.register_at_fork(after_in_child=_forget_all)
