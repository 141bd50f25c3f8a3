"""Many requests, one round trip: requests that come while a call to Redis is under way go with the next call.

A request alone pays one hop to a thread and back; under load a batch grows as large as it has to, and its requests
share the cost of the hop and of the call. The event loop itself never waits for Redis, which may be frozen. Only the
event loop touches the state here, so there is no lock.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from engine.errors import BrokerUnavailable

BATCH_MAX = 250
PENDING_MAX = 5_000

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class RequestBatcher(Generic[Item, Answer]):
    """Used on one event loop.

    Args:
        name: of its thread.
        do: called in the thread with up to BATCH_MAX items, and gives as many answers. An exception among them is
            raised for its item. A call that fails as a whole fails for all its items; if Redis is away, also for all
            that wait.
    """

    def __init__(self, name: str, do: Callable[[Sequence[Item]], Sequence[Answer | Exception]]) -> None:
        self._do = do
        self._pending: list[tuple[Item, asyncio.Future[Answer]]] = []
        self._busy = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)

    async def call(self, item: Item) -> Answer:
        """Return the answer for an item. Raises what `do` gave for it, and `BrokerUnavailable` when too many wait."""
        if len(self._pending) >= PENDING_MAX:
            raise BrokerUnavailable(f"{PENDING_MAX} requests wait for Redis already")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        self._pending.append((item, future))
        if not self._busy:
            self._begin(loop)
        return await future

    def close(self) -> None:
        """Begin no more calls."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        batch, self._pending = self._pending[:BATCH_MAX], self._pending[BATCH_MAX:]
        self._busy = True

        def work() -> None:
            try:
                answers: Sequence[Answer | Exception] = self._do([item for item, _ in batch])
            except Exception as error:  # noqa: BLE001  it is raised where the answer is awaited
                answers = [error] * len(batch)
            loop.call_soon_threadsafe(self._finish, loop, batch, answers)

        self._thread.submit(work)

    def _finish(self, loop: asyncio.AbstractEventLoop, batch: list[tuple[Item, "asyncio.Future[Answer]"]],
                answers: Sequence[Answer | Exception]) -> None:
        self._busy = False
        for (_, future), answer in zip(batch, answers, strict=True):
            _settle(future, answer)
        if answers and all(isinstance(answer, BrokerUnavailable) for answer in answers):
            waiting, self._pending = self._pending, []
            for _, future in waiting:
                _settle(future, answers[0])
        if self._pending:
            self._begin(loop)


def _settle(future: "asyncio.Future[Answer]", answer: Answer | Exception) -> None:
    if future.done():  # the request was given up
        return
    if isinstance(answer, Exception):
        future.set_exception(answer)
    else:
        future.set_result(answer)
