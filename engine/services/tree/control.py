"""What the root is asked to do from afar: drain, stop, start, restart and scale its pools. The keeper passes it on.

`drain` and `stop` end the pools and leave the keeper and the API up, so that a `start` can be asked for.
"""

import logging
from collections import deque
from typing import Any, Protocol

WORKERS_MAX = 1024
OBEYED_MAX = 100  # commands that are recognised when they come again
NAME_LENGTH_MAX = 64
log = logging.getLogger("ganger.execution")


class PoolControl(Protocol):
    """What `Control` does with the pools of a tree."""

    def pools(self) -> list[str]: ...

    def end_pool(self, name: str, *, at_once: bool) -> None: ...

    def start_pools(self) -> None: ...

    def reload_pools(self) -> None: ...

    def scale(self, pool: str, workers: int | str) -> None: ...


class Control:
    """Carries out commands on the pools of one tree, each once."""

    def __init__(self, pools: PoolControl) -> None:
        self._pools = pools
        self._obeyed: deque[str] = deque(maxlen=OBEYED_MAX)  # names of commands

    def obey(self, command: dict[str, Any]) -> None:
        """Do what is asked, once however often the command comes. The log reports a command that makes no sense.

        `command` is {"do": "drain", "stop", "start", "restart" or "scale"}, with its name as "order". A command to
        scale has "pool" and "workers": a number from 1 to WORKERS_MAX, or "auto".
        """
        name = command.get("order")
        if isinstance(name, str):
            name = name[:NAME_LENGTH_MAX]
            if name in self._obeyed:
                return
            self._obeyed.append(name)
        log.info("asked", extra={"order": command})
        match command:
            case {"do": "drain" | "stop" as word}:
                for pool in self._pools.pools():
                    self._pools.end_pool(pool, at_once=word == "stop")
            case {"do": "start"}:
                self._pools.start_pools()
            case {"do": "restart"}:
                self._pools.reload_pools()
            case {"do": "scale", "workers": int(workers) | ("auto" as workers), "pool": str(pool)} \
                    if is_scale(workers):
                self._pools.scale(pool, workers)
            case _:
                log.warning("unknown command", extra={"order": command})


def is_scale(workers: int | str) -> bool:
    """Whether a pool can be scaled to this."""
    return workers == "auto" or 1 <= int(workers) <= WORKERS_MAX
