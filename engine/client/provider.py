"""How clients and commands connect to Redis. Above the adapters, only this module imports Redis's adapter for them.

A client's connection is opened at first use, again after a fork, and closed once:

1. Where no `redis_url` is set, the client is a user of the embedded Redis of `data_dir`.
2. A child of os.fork gets a broker of its own. It leaves the parent's broker alone, since both share its sockets.
3. In the fork server, the first use of a client ends the execution of a module or of the main script: the real process
   submits these tasks, and the fork server must not.
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
    """Opens and holds the broker of one client. Fulfils `BrokerProvider`. Threads may share it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._lock = Lock()
        self._broker: RedisClientBroker | None = None
        self._embedded: EmbeddedRedis | None = None
        self._closed = False
        _ALL.add(self)

    def broker(self) -> RedisClientBroker:
        """Return the connected broker. Raises `BrokerError`, or `EngineError` if the embedded Redis does not start."""
        return self._broker or self._open()

    def now_ms(self) -> int:
        """Return Redis's time, read again twice a minute: a host that has slept must not date tasks wrongly."""
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
        """In the child of a fork: let go of the broker, which belongs to the parent."""
        _PARENTS.append((self._broker, self._embedded))
        self._lock = Lock()  # a thread of the parent may have held it
        self._broker = self._embedded = None


def connected(settings: Settings) -> EngineBroker:
    """Return a broker for settings with a URL, after one round trip. The caller closes it. Raises `BrokerError`."""
    return connect(settings)


@contextmanager
def settings_with_redis(settings: Settings) -> Iterator[Settings]:
    """Give the settings with the URL of a Redis. Without one, this process uses the embedded Redis while inside.

    Raises `EngineError` if the embedded Redis does not start.
    """
    if settings.redis_url is not None:
        yield settings
        return
    with open_embedded(settings.data_dir, settings.redis_binary) as embedded:
        yield settings.model_copy(update={"redis_url": embedded.url})


_ALL: "weakref.WeakSet[RedisBrokerProvider]" = weakref.WeakSet()
_PARENTS: list[object] = []  # kept, so that no finaliser closes connections that the parent still uses


def _forget_all() -> None:
    for provider in list(_ALL):
        provider.forget()


os.register_at_fork(after_in_child=_forget_all)
