"""Keeps what a service does beside its requests alive: nothing ends unseen.

1. A duty is a coroutine function, or a function that gets a thread of its own. It is to run until `close`.
2. When it fails or ends before, that is logged, and it is started again after a pause that grows.
3. Until it has run for WELL_S again, `troubles` names it.
4. What is done once goes through `once`: an error in it is logged.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

PAUSE_S, PAUSE_S_MAX = 0.5, 30.0
WELL_S = 10.0

errors = logging.getLogger("ganger.errors")


class Background:
    """Used on one event loop. `pause_s` is the first pause; `clock` gives seconds."""

    def __init__(self, pause_s: float = PAUSE_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._pause_s, self._clock = pause_s, clock
        self._tasks: set[asyncio.Task[None]] = set()
        self._reasons: dict[str, str] = {}  # of the last failure of each duty that is not well again
        self._begun_s: dict[str, float] = {}
        self._over = threading.Event()

    def keep(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Run a duty on the event loop."""
        self._own(asyncio.get_running_loop().create_task(self._keep(name, work), name=name))

    def keep_thread(self, name: str, work: Callable[[], None]) -> None:
        """Run a duty in a thread of its own; `work` has to return soon after `close` by itself."""
        threading.Thread(target=self._keep_in_thread, args=(name, work), name=name, daemon=True).start()

    def once(self, name: str, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Do something that ends by itself."""
        return self._own(asyncio.get_running_loop().create_task(self._once(name, work), name=name))

    def troubles(self) -> list[str]:
        """The duties that have failed and are not known to be well again, with the reason."""
        now_s = self._clock()
        for name in list(self._reasons):
            if now_s - self._begun_s.get(name, now_s) > WELL_S:
                self._reasons.pop(name, None)
        return [f"{name}: {reason}" for name, reason in sorted(self._reasons.items())]

    def close(self) -> None:
        """End every duty; those in threads end by themselves."""
        self.stop()
        for task in self._tasks:
            task.cancel()

    def stop(self) -> None:
        """A duty that ends from now on has not failed."""
        self._over.set()

    async def _keep(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        failures = 0
        while not self._over.is_set():
            self._begun_s[name] = self._clock()
            try:
                await work()
                error = None
            except Exception as raised:  # noqa: BLE001  whatever it was, it is logged and tried again
                error = raised
            if self._over.is_set():
                return
            failures, pause_s = self._failed(name, error, failures)
            await asyncio.sleep(pause_s)

    def _keep_in_thread(self, name: str, work: Callable[[], None]) -> None:
        failures = 0
        while not self._over.is_set():
            self._begun_s[name] = self._clock()
            try:
                work()
                error = None
            except Exception as raised:  # noqa: BLE001  whatever it was, it is logged and tried again
                error = raised
            if self._over.is_set():
                return
            failures, pause_s = self._failed(name, error, failures)
            self._over.wait(pause_s)

    def _failed(self, name: str, error: Exception | None, failures: int) -> tuple[int, float]:
        """Log it; how often in a row it has failed, and for how long to wait."""
        ran_s = self._clock() - self._begun_s.pop(name)
        failures = 1 if ran_s > WELL_S else failures + 1
        pause_s = min(self._pause_s * 2.0 ** min(failures - 1, 16), PAUSE_S_MAX)
        self._reasons[name] = "it ended" if error is None else f"{type(error).__name__}: {error}"[:300]
        errors.error("a duty in the background failed; it is started again", exc_info=error, extra={
            "duty": name, "reason": self._reasons[name], "failures": failures, "pause_s": pause_s})
        return failures, pause_s

    async def _once(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001  nobody awaits it
            errors.error("something in the background failed", exc_info=error, extra={"duty": name})

    def _own(self, task: "asyncio.Task[None]") -> "asyncio.Task[None]":
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
