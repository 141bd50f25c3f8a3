"""Calls that may take their time, such as those to a Redis that is away: the keys never wait for them."""

import contextlib
import os
import queue
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from engine.errors import GangerError

_BYTES_MAX = 256


class Done(NamedTuple):
    name: str
    value: Any  # what it returned, or the GangerError that it raised


class Errands:
    """At most one of each name is under way. `fd` can be read when one is done."""

    def __init__(self) -> None:
        self.fd, self._bell = os.pipe()
        os.set_blocking(self.fd, False)
        self._under_way: set[str] = set()
        self._done: queue.SimpleQueue[Done] = queue.SimpleQueue()

    def start(self, name: str, function: Callable[[], Any]) -> bool:
        """Do it in a thread of its own, which does not keep the program from ending; False if one is under way."""
        if name in self._under_way:
            return False
        self._under_way.add(name)
        threading.Thread(target=self._run, args=(name, function), name=name, daemon=True).start()
        return True

    def done(self) -> list[Done]:
        """What has come back since it was last asked for."""
        found: list[Done] = []
        with contextlib.suppress(BlockingIOError):
            os.read(self.fd, _BYTES_MAX)
        while not self._done.empty():
            found.append(self._done.get())
            self._under_way.discard(found[-1].name)
        return found

    def _run(self, name: str, function: Callable[[], Any]) -> None:
        try:
            value = function()
        except GangerError as error:
            value = error
        self._done.put(Done(name, value))
        os.write(self._bell, b"!")
