"""The API as a child of the root: the server's event loop goes round inside the child's own.

So if the loop hangs, the child sends no more signs of life, and the root ends it and starts another one.

Where it cannot serve, as while another program has the port, the pools run all the same: it logs one line, and tries
again every few seconds.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from typing import Any

import uvloop

from engine.adapters.poller import EpollPoller
from engine.errors import GangerError
from engine.services.api.http import server
from engine.services.bootstrap import Bootstrap

RETRY_S = 5.0

log = logging.getLogger("ganger.execution")


class ApiLoop:
    """Owns an event loop, on which the server is one task; the messages of the root are read in between.

    Args:
        name: of the child; the number of its generation after a reload.
        tell_root: sends a message to the root.
    """

    def __init__(self, name: str, bootstrap: Bootstrap, poller: EpollPoller,
                 tell_root: Callable[[dict[str, Any]], None]) -> None:
        self.bootstrap, self.poller, self.tell_root = bootstrap, poller, tell_root
        self._is_successor = name.isdigit()
        self.loop = uvloop.new_event_loop()
        self.loop.add_reader(poller.fileno(), self._root_says)
        self.server: server.ApiServer | None = None
        self.serving: asyncio.Task[None] | None = None
        self.url = ""
        self._reason = ""  # why it does not serve yet
        self._warning: str | None = None
        self._retry_s = 0.0
        self._said_ready = self._is_over = False
        self._heard = asyncio.Event()

    def turn(self, patience_s: float) -> None:
        """One round; waits for `patience_s` at most."""
        if self.serving is None:
            self._begin()
        if not self._said_ready and self.server is not None and self.server.started:
            self._said_ready = True
            server.log_listening(self.url, self._warning)
            self.tell_root({"is": "ready"})
        is_starting = self.serving is not None and not self._said_ready
        self.loop.run_until_complete(self._round(0.05 if is_starting else min(patience_s, RETRY_S)))

    def _begin(self) -> None:
        """Serve, if that is possible by now."""
        now_s, settings = time.monotonic(), self.bootstrap.settings
        if now_s < self._retry_s or self._is_over:
            return
        try:
            self._warning = server.check_open(settings)
            listener = server.listen(settings, beside_predecessor=self._is_successor)
        except GangerError as error:
            self._retry_s = now_s + RETRY_S
            if str(error) != self._reason:
                self._reason = str(error)
                log.error("there is no API for now; the pools run without it", extra={
                    "reason": self._reason, "next_try_s": RETRY_S})
            self.tell_root({"is": "waits"})
            return
        self.server = server.make_server(settings, is_child=True)
        self.serving = self.loop.create_task(self.server.serve([listener]))
        self.url = server.url_of(listener)

    async def _round(self, patience_s: float) -> None:
        if self.serving is not None:
            await asyncio.wait([self.serving], timeout=patience_s)
        else:
            self._heard.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._heard.wait(), patience_s)

    def _root_says(self) -> None:
        self.poller.wait(0)
        self._heard.set()

    def drain(self) -> None:
        """Answer what is under way, then end."""
        self._end()

    def stop(self) -> None:
        self._end(at_once=True)

    def _end(self, *, at_once: bool = False) -> None:
        self._is_over = True
        if self.server is not None:
            self.server.should_exit = True
            self.server.force_exit = self.server.force_exit or at_once

    @property
    def is_done(self) -> bool:
        return self._is_over if self.serving is None else self.serving.done()

    def close(self) -> int:
        rest = asyncio.all_tasks(self.loop)  # after a stop at once there are tasks it did not wait for
        for task in rest:
            task.cancel()
        if rest:
            self.loop.run_until_complete(asyncio.wait(rest))
        self.loop.close()
        if self.server is None or self.serving is None:
            return 0  # it was ended before it could serve
        return 0 if self.server.started and self.serving.exception() is None else 1


def make_loop(name: str, bootstrap: Bootstrap, poller: EpollPoller,
              tell_root: Callable[[dict[str, Any]], None]) -> ApiLoop:
    return ApiLoop(name, bootstrap, poller, tell_root)
