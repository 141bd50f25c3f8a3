"""Runs the tree, with the embedded Redis where no other is named: for `ganger run`, and for a script's Scheduler.

    python -m engine.services.tree.run BOOTSTRAP READY LIFELINE        as the Scheduler starts it

The three are descriptors. The root reads from the first what it is to do. It writes to the second, once, that it is
ready or why not. It ends when the third does, which is when the script has ended.
"""

import os
import sys
from collections.abc import Callable

from engine import logs
from engine.adapters.kernel import ulimits
from engine.adapters.kernel.service_manager import ServiceManager
from engine.adapters.poller import EpollPoller
from engine.adapters.process.resources.cgroup import take_over
from engine.adapters.redis.embedded.server import EmbeddedRedis, open_embedded
from engine.adapters.redis.tasks.broker import RedisClientBroker
from engine.config import Settings
from engine.errors import BrokerError, EngineError, GangerError, SchemaMismatch
from engine.services import composition
from engine.services.bootstrap import Bootstrap
from engine.services.tree.announcements import Readiness
from engine.services.tree.root import Root


def run_root(settings: Settings, reload: Callable[[], Settings]) -> int:
    """Run the tree until it is told to stop, or gives up; return the exit code, 0 or 1.

    `reload` reads the settings anew on SIGHUP. Handlers are imported from the current folder and this process's path.
    Raises `EngineError` if the embedded Redis cannot be started, or something else that a first start needs is not
    there: a handler module that cannot be imported, say.
    """
    manager = ServiceManager.from_environ(os.environ)  # first of all: no child may speak in our name
    take_over()
    path = dict.fromkeys([os.getcwd(), *map(os.path.abspath, sys.path)])
    return _run(Bootstrap(settings=settings, sys_path=list(path)), reload, Readiness(), None, manager)


def run_for_script(bootstrap_fd: int, ready_fd: int, lifeline_fd: int) -> int:
    """Run the tree as the child of a script, which holds the other ends of these descriptors."""
    bootstrap = Bootstrap.from_fd(bootstrap_fd)
    readiness = Readiness(ready_fd)
    try:
        return _run(bootstrap, lambda: bootstrap.settings, readiness, lifeline_fd, ServiceManager())
    except GangerError as error:
        readiness.fail(str(error))
        return 1


def _run(bootstrap: Bootstrap, reload: Callable[[], Settings], readiness: Readiness, lifeline_fd: int | None,
         manager: ServiceManager) -> int:
    settings = bootstrap.settings
    logs.set_up(settings.log_level, settings.log_format, process="root")
    _provided(settings)
    embedded: EmbeddedRedis | None = None
    if settings.redis_url is None:
        embedded = open_embedded(settings.data_dir, settings.redis_binary)
        settings = settings.model_copy(update={"redis_url": embedded.url})
    try:
        _check_format(settings)
        bootstrap = bootstrap.model_copy(update={"settings": settings})
        root = Root(bootstrap, lambda: _provided(reload()), readiness, lifeline_fd, manager, EpollPoller())
        code = root.run()
        if root.refusal is not None:
            raise EngineError(root.refusal)
        return code
    finally:
        if embedded is not None:
            embedded.close()


def _check_format(settings: Settings) -> None:
    """Raises `SchemaMismatch`. A Redis that is away is waited for by the pools, which ask it themselves."""
    assert settings.redis_url is not None
    broker = RedisClientBroker(settings.redis_url, prefix=settings.queue_prefix, timeout_s=settings.submit_timeout_s)
    try:
        broker.ping()
    except SchemaMismatch:
        raise
    except BrokerError:
        return
    finally:
        broker.close()


def _provided(settings: Settings) -> Settings:
    """The same, once the limits of the user are high enough for them. Raises `EngineError` if they cannot be."""
    ulimits.provide(composition.ulimits_needed(settings))
    return settings


def main(arguments: list[str]) -> int:
    """Run the tree for a script; return the exit code."""
    bootstrap_fd, ready_fd, lifeline_fd = map(int, arguments)
    for fd in (ready_fd, lifeline_fd):
        os.set_inheritable(fd, False)
    return run_for_script(bootstrap_fd, ready_fd, lifeline_fd)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
