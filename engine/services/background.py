"""Runs the jobs that a service has beside its requests, and keeps them running.

1. A job is a coroutine function, or a function that gets a thread of its own. It is to run until `close`.
2. A job that fails or ends before is logged, and is started again after a pause that grows.
3. Until it has run for WELL_S seconds again, `troubles` names it, and the health of the API shows it.
4. An error in work that is done once is logged.
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
    """Used on one event loop.

    Args:
        pause_s: the first pause before a job is started again, in seconds; it doubles up to PAUSE_S_MAX.
        clock: gives seconds.
    """

    def __init__(self, pause_s: float = PAUSE_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._pause_s, self._clock = pause_s, clock
        self._tasks: set[asyncio.Task[None]] = set()
        self._reasons: dict[str, str] = {}  # of the last failure of each job that is not well again
        self._begun_s: dict[str, float] = {}
        self._over = threading.Event()

    def keep(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Run a job on the event loop. `name` stands in the log and in the health of the API."""
        self._own(asyncio.get_running_loop().create_task(self._keep(name, work), name=name))

    def keep_thread(self, name: str, work: Callable[[], None]) -> None:
        """Run a job in a thread of its own; `work` has to return soon after `close` by itself."""
        threading.Thread(target=self._keep_in_thread, args=(name, work), name=name, daemon=True).start()

    def once(self, name: str, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Run work that ends by itself, and return its task."""
        return self._own(asyncio.get_running_loop().create_task(self._once(name, work), name=name))

    def troubles(self) -> list[str]:
        """Return the jobs that have failed and are not known to be well again, each as "name: reason"."""
        now_s = self._clock()
        for name in list(self._reasons):
            if now_s - self._begun_s.get(name, now_s) > WELL_S:
                self._reasons.pop(name, None)
        return [f"{name}: {reason}" for name, reason in sorted(self._reasons.items())]

    def close(self) -> None:
        """End every job; those in threads end by themselves."""
        self.stop()
        for task in self._tasks:
            task.cancel()

    def stop(self) -> None:
        """Let jobs end: one that ends from now on has not failed."""
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
        """Log a failure; return how many there were in a row, and for how many seconds to wait."""
        ran_s = self._clock() - self._begun_s.pop(name)
        failures = 1 if ran_s > WELL_S else failures + 1
        pause_s = min(self._pause_s * 2.0 ** min(failures - 1, 16), PAUSE_S_MAX)
        self._reasons[name] = "it ended" if error is None else f"{type(error).__name__}: {error}"[:300]
        errors.error("a background job failed and is started again", exc_info=error, extra={
            "job": name, "reason": self._reasons[name], "failures": failures, "pause_s": pause_s})
        return failures, pause_s

    async def _once(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001  nobody awaits it
            errors.error("background work failed", exc_info=error, extra={"job": name})

    def _own(self, task: "asyncio.Task[None]") -> "asyncio.Task[None]":
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
