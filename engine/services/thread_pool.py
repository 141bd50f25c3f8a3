"""The threads in which the API calls its synchronous client, so that the event loop never waits for Redis.

A call that takes too long is no longer awaited: its thread ends by itself, at the client's own deadline.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from engine.errors import BrokerUnavailable

THREADS = 16
WAITING_MAX = 500  # calls; more are refused

P = ParamSpec("P")
Result = TypeVar("Result")


class ThreadPool:
    """A bounded number of threads, and of calls that wait for one. Used on one event loop."""

    def __init__(self, threads: int = THREADS) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="api")
        self._under_way = 0

    async def run(self, function: Callable[P, Result], /, *args: P.args, **options: P.kwargs) -> Result:
        """Call a function in a thread. Raises what it raises, and `BrokerUnavailable` when too many calls wait."""
        if self._under_way >= WAITING_MAX:
            raise BrokerUnavailable(f"{WAITING_MAX} requests wait for a thread already")
        self._under_way += 1
        future = asyncio.get_running_loop().run_in_executor(self._executor, lambda: function(*args, **options))
        future.add_done_callback(self._done)
        return await future

    def _done(self, future: "asyncio.Future[Result]") -> None:
        self._under_way -= 1
        if not future.cancelled():
            future.exception()  # seen, also where the request was given up meanwhile

    def close(self) -> None:
        """Begin no more calls."""
        self._executor.shutdown(wait=False, cancel_futures=True)
