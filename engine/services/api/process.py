"""The API as a child of the root: the server's event loop goes round inside the child's own.

So a loop that hangs says no more that it is well, and is ended and started anew like any other child.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import uvloop

from engine.adapters.poller import EpollPoller
from engine.services.api import server
from engine.services.bootstrap import Bootstrap

log = logging.getLogger("ganger.execution")


class ApiLoop:
    """Owns an event loop, on which the server is one task; the messages of the root come in between.

    `name` is the number of its generation after a reload.
    """

    def __init__(self, name: str, bootstrap: Bootstrap, poller: EpollPoller,
                 tell_root: Callable[[dict[str, Any]], None]) -> None:
        server.check_open(bootstrap.settings)
        listener = server.listen(bootstrap.settings, beside_predecessor=name.isdigit())
        self.loop, self.poller, self.tell_root = uvloop.new_event_loop(), poller, tell_root
        self.server = server.make_server(bootstrap.settings, is_child=True)
        self.loop.add_reader(poller.fileno(), self._root_says)
        self.serving = self.loop.create_task(self.server.serve([listener]))
        self.url = server.url_of(listener)
        self._said_ready = False

    def turn(self, patience_s: float) -> None:
        """One round; waits for `patience_s` at most."""
        if not self._said_ready and self.server.started:
            self._said_ready = True
            log.info("the API listens", extra={"url": self.url})
            self.tell_root({"is": "ready"})
        self.loop.run_until_complete(self._round(patience_s if self._said_ready else 0.05))

    async def _round(self, patience_s: float) -> None:
        await asyncio.wait([self.serving], timeout=patience_s)

    def _root_says(self) -> None:
        self.poller.wait(0)

    def drain(self) -> None:
        """Answer what is under way, then end."""
        self.server.should_exit = True

    def stop(self) -> None:
        self.server.should_exit = self.server.force_exit = True

    @property
    def is_done(self) -> bool:
        return self.serving.done()

    def close(self) -> int:
        rest = asyncio.all_tasks(self.loop)  # after a stop at once: what it did not wait for
        for task in rest:
            task.cancel()
        self.loop.run_until_complete(asyncio.gather(*rest, return_exceptions=True))
        self.loop.close()
        return 0 if self.server.started and self.serving.exception() is None else 1


def make_loop(name: str, bootstrap: Bootstrap, poller: EpollPoller,
              tell_root: Callable[[dict[str, Any]], None]) -> ApiLoop:
    return ApiLoop(name, bootstrap, poller, tell_root)
