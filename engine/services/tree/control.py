"""What the root is asked to do from afar: stop, start, restart and scale its pools. The keeper hands it on.

`stop` and `drain` end the pools and leave the keeper, and the API, up, so that there is somebody to ask for a `start`.
"""

import logging
import time
from typing import TYPE_CHECKING, Any

from engine.config import Settings, sizes

if TYPE_CHECKING:
    from engine.services.tree.root import Root

WORKERS_MAX = 1024
OBEYED_MAX = 100  # orders that are known when they come again
NAME_LENGTH_MAX = 64
log = logging.getLogger("ganger.execution")


def obey(root: "Root", order: dict[str, Any]) -> None:
    """Do what was asked, once however often it comes; what makes no sense is told in the log."""
    name = order.get("order")
    if isinstance(name, str):
        name = name[:NAME_LENGTH_MAX]
        if name in root.obeyed:
            return
        root.obeyed.append(name)
    log.info("asked", extra={"order": order})
    match order:
        case {"do": "drain" | "stop" as word}:
            _end_pools(root, at_once=word == "stop")
        case {"do": "start"}:
            root.start_pools()
        case {"do": "restart"}:
            root.reload_pools()
        case {"do": "scale", "workers": int(workers) | ("auto" as workers), "pool": str(pool)} if is_scale(workers):
            root.scale(pool, workers)
        case _:
            log.warning("unknown command", extra={"order": order})


def is_scale(workers: int | str) -> bool:
    return workers == "auto" or 1 <= int(workers) <= WORKERS_MAX


def scaled(settings: Settings, workers: dict[str, int | str]) -> Settings:
    """The settings with as many workers in each pool as was asked for last, within their bounds."""
    pools = dict(settings.pools)
    for name in workers.keys() & pools.keys():
        asked = workers[name]
        update = {"scale": "auto"} if isinstance(asked, str) else {
            "scale": "fixed", "max_workers": sizes.scale(settings, name).bounded(asked)}
        pools[name] = pools[name].model_copy(update=update)
    return settings.model_copy(update={"pools": pools})


def _end_pools(root: "Root", *, at_once: bool) -> None:
    for name in root.pools():
        root.retire(name, time.monotonic())
        if at_once:
            root.processes.tell(name, {"do": "stop"})
