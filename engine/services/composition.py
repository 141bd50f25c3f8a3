"""Turns settings into what the services need. The one place, with the `process` modules, where adapters are made."""

import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version

from engine.adapters.kernel import ulimits
from engine.adapters.redis.keeper.keeper_broker import RedisKeeperBroker
from engine.adapters.redis.records.engine_log import RedisEngineLog
from engine.adapters.redis.tasks.broker import connect
from engine.adapters.redis.wire.connection import Connections
from engine.adapters.redis.wire.keys import Keys
from engine.config import Settings, sizes
from engine.core.task.options import OPTIONS
from engine.core.task.policy import RunPolicy
from engine.ports.engine_log import EngineLog
from engine.ports.keeper_broker import KeeperBroker


def engine_version() -> str:
    try:
        return version("ganger")
    except PackageNotFoundError:  # run from a checkout that was not installed
        return "0"


def supervisor_name(kind: str) -> str:
    """Unique for each process that leads: host, kind, and some chance, in the alphabet of a Redis key."""
    host = "".join(letter if letter.isalnum() or letter == "-" else "-" for letter in socket.gethostname())
    return f"{host[:40]}.{kind}.{secrets.token_hex(3)}"


def run_policy(settings: Settings) -> RunPolicy:
    """What holds for a handler and a task that give no options."""
    values = {name: getattr(settings, option.setting) for name, option in OPTIONS.items() if option.setting}
    return RunPolicy(failed_ttl_s=settings.failed_ttl_s).with_handler(values)


def engine_log(settings: Settings) -> EngineLog:
    """The log in Redis, on connections of its own that are opened at first use."""
    assert settings.redis_url is not None
    return RedisEngineLog(Connections(settings.redis_url), Keys(settings.queue_prefix))


@contextmanager
def keeper_broker(settings: Settings) -> Iterator[KeeperBroker]:
    """A keeper's verbs for somebody who is no keeper, while inside. Raises `BrokerError` if Redis cannot be reached."""
    broker = connect(settings)
    try:
        yield RedisKeeperBroker(broker)
    finally:
        broker.close()


def ulimits_needed(settings: Settings) -> list[ulimits.Need]:
    """What the tree needs of the limits of its user: descriptors in each pool, processes and threads in all."""
    pools = [(sizes.workers(settings, name), sizes.scale(settings, name).most + settings.frozen_max)
             for name in settings.pools]
    return [ulimits.files(max(few for few, _ in pools), max(many for _, many in pools)),
            ulimits.processes(sum(few for few, _ in pools), sum(many for _, many in pools), len(pools))]
