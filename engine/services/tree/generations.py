"""Generations of children: a reload starts successors with new settings and code, and retires what they replace.

1. A child goes on until its successor is ready. No task waits or is lost meanwhile.
2. A successor that cannot import what its predecessor could, or lacks what it needs, is retired itself.
3. How many workers were asked for since the start holds for the generations after it too.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from engine.config import Settings, sizes
from engine.core.tree.supervision import Action, Restart, Supervision
from engine.errors import GangerError
from engine.services.bootstrap import Bootstrap
from engine.services.tree.services import child_specs, without_generation

log = logging.getLogger("ganger.execution")


class Generations:
    """Fulfils `control.PoolControl`.

    `tell` sends a message to a child, `carry_out` does what the core asks for. `read_settings` reads the settings anew
    and raises a `GangerError` where they are not acceptable; `on_reload` is called before each reload.
    """

    def __init__(self, bootstrap: Bootstrap, core: Supervision, tell: Callable[[str, dict[str, Any]], None],
                 carry_out: Callable[[list[Action]], None], read_settings: Callable[[], Settings],
                 on_reload: Callable[[], None]) -> None:
        self.bootstrap, self._core = bootstrap, core
        self._tell, self._carry_out = tell, carry_out
        self._read_settings, self._on_reload = read_settings, on_reload
        self._bootstraps: dict[str, Bootstrap] = dict.fromkeys(core.children, bootstrap)
        self._predecessors: dict[str, str] = {}  # successor that is not ready -> the child that it replaces
        self._workers: dict[str, int | str] = {}  # pool -> how many were asked for since the start, or "auto"
        self._number = 1

    @property
    def is_replacing(self) -> bool:
        """Whether a successor is not ready yet."""
        return bool(self._predecessors)

    def is_successor(self, name: str) -> bool:
        """Whether the child replaces another one and is not ready yet."""
        return name in self._predecessors

    def replaces_living(self, name: str) -> bool:
        """Whether the child is a successor, and what it replaces is still there."""
        return self._predecessors.get(name) in self._core.children

    def bootstrap_of(self, name: str) -> Bootstrap:
        """What the child `name` is told at its start."""
        return self._bootstraps[name]

    # -- what happens to successors -------------------------------------------------------------------------------

    def became_ready(self, name: str, failures: dict[str, str]) -> None:
        """A child is ready; `failures` are the tracebacks of its imports that failed, by module."""
        old = self._predecessors.pop(name, None)
        if old is None:
            return
        if failures and old in self._core.children:
            log.error("not reloaded: handler modules cannot be imported", extra={"child": name, "failures": failures})
            self.retire(name)
            return
        child = self._core.children[name]
        child.spec = replace(child.spec, restart=Restart.PERMANENT)
        if old in self._core.children:
            self.retire(old)

    def ended(self, name: str) -> None:
        """The process of a child is gone."""
        if self._predecessors.pop(name, None) is not None:
            log.error("not reloaded: the successor ended before it was ready", extra={"child": name})
            self.retire(name)

    def retire(self, name: str) -> None:
        """Let a child end for good."""
        self._predecessors.pop(name, None)
        self._carry_out(self._core.retire(name, time.monotonic()))

    # -- what is asked for ----------------------------------------------------------------------------------------

    def reload(self, kind: str = "") -> None:
        """Read the settings, and replace the children whose names begin with `kind`."""
        if not self._core.stopping:
            self._on_reload()
        try:
            settings = self._read_settings()
        except GangerError as error:
            log.error("not reloaded: the settings are not acceptable", extra={"reason": str(error)})
            return
        if self._core.stopping:
            return
        self._number += 1
        settings = scaled(settings, self._workers)
        settings = settings.model_copy(update={"redis_url": self.bootstrap.settings.redis_url})
        self.bootstrap = self.bootstrap.model_copy(update={"settings": settings})
        logging.getLogger("ganger").setLevel(settings.log_level)
        log.info("reloading", extra={"generation": self._number})
        self._replace(kind)

    def _replace(self, kind: str) -> None:
        for name in [name for name in self._predecessors if name.startswith(kind)]:  # not ready, and already outdated
            self.retire(name)
        old = {without_generation(name): name for name, child in self._core.children.items()
               if child.wanted and name.startswith(kind)}
        for new in child_specs(self.bootstrap.settings, self._number):
            if not new.name.startswith(kind):
                continue
            spec = new
            self._bootstraps[spec.name] = self.bootstrap
            predecessor = old.pop(without_generation(spec.name), None)
            if predecessor is not None:
                self._predecessors[spec.name] = predecessor
                spec = replace(spec, restart=Restart.TEMPORARY)
            self._carry_out(self._core.add(spec, time.monotonic()))
        for name in old.values():
            self.retire(name)

    def pools(self) -> list[str]:
        """The children that are pools and are to stay."""
        return [name for name, child in self._core.children.items() if name.startswith("pool ") and child.wanted]

    def end_pool(self, name: str, *, at_once: bool) -> None:
        """Let a pool end for good: drain, or stop `at_once`."""
        self.retire(name)
        if at_once:
            self._tell(name, {"do": "stop"})

    def start_pools(self) -> None:
        """Start the pools that were ended by request, as they were."""
        running = {without_generation(name) for name in self.pools()}
        self._number += 1
        for spec in child_specs(self.bootstrap.settings, self._number):
            is_missing = spec.name.startswith("pool ") and without_generation(spec.name) not in running
            if is_missing and not self._core.stopping:
                self._bootstraps[spec.name] = self.bootstrap
                self._carry_out(self._core.add(spec, time.monotonic()))

    def scale(self, pool: str, workers: int | str) -> None:
        """Tell a pool, and those that will come after it, how many workers to have: a number, or "auto"."""
        self._workers[pool] = workers
        settings = scaled(self.bootstrap.settings, self._workers)
        self.bootstrap = self.bootstrap.model_copy(update={"settings": settings})
        for name in self.pools():
            if without_generation(name) == f"pool {pool}":
                self._bootstraps[name] = self.bootstrap
                self._tell(name, {"do": "scale", "workers": workers})

    def reload_pools(self) -> None:
        """Reload as at a SIGHUP, but keep the children that are no pools."""
        self.reload("pool ")


def scaled(settings: Settings, workers: dict[str, int | str]) -> Settings:
    """The settings with as many workers in each pool as was asked for last, within their bounds."""
    pools = dict(settings.pools)
    for name in workers.keys() & pools.keys():
        asked = workers[name]
        update = {"scale": "auto"} if isinstance(asked, str) else {
            "scale": "fixed", "max_workers": sizes.scale(settings, name).bounded(asked)}
        pools[name] = pools[name].model_copy(update=update)
    return settings.model_copy(update={"pools": pools})
