"""`ganger run`: brings the embedded Redis up where none is named, and the tree with it."""

import os
from collections.abc import Callable
from typing import Any

from engine import logs
from engine.adapters.redis.embedded import Embedded, open_embedded
from engine.config import Settings
from engine.services.bootstrap import Bootstrap
from engine.services.readiness import Readiness
from engine.services.root import Root


def run_root(settings: Settings, reload: Callable[[], Settings], *, main: dict[str, str] | None = None,
             functions: dict[str, Any] | None = None, sys_path: list[str] | None = None,
             ready_fd: int | None = None, lifeline_fd: int | None = None,
             on_ready: Callable[[], None] = lambda: None) -> int:
    """Run the tree until it is told to stop, or gives up; return the exit code, 0 or 1.

    `reload` reads the settings anew on SIGHUP. `sys_path` is where handlers are imported from, by default the
    current folder and this process's path. Raises `EngineError` if the embedded Redis cannot be started.
    """
    logs.set_up(settings.log_level, settings.log_format, process="root")
    embedded: Embedded | None = None
    if settings.redis_url is None:
        embedded = open_embedded(settings.data_dir)
        settings = settings.model_copy(update={"redis_url": embedded.url})
    try:
        bootstrap = Bootstrap(settings=settings, main=main, functions=functions or {},
                              sys_path=sys_path if sys_path is not None else [os.getcwd()])
        return Root(bootstrap, reload, Readiness(ready_fd, on_ready), lifeline_fd).run()
    finally:
        if embedded is not None:
            embedded.close()
