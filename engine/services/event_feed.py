"""The events as they happen: one reader of Redis's stream for all followers in this process.

A follower that is near the end of the stream is served from memory, one that is behind from Redis. One that is so far
behind that events are gone is told so.
"""

import asyncio
import logging
import threading
from collections import defaultdict, deque
from collections.abc import AsyncIterator
from typing import NamedTuple

from engine.errors import GangerError
from engine.ports.engine_broker import EngineBrokerProvider
from engine.ports.event_stream import EventStreamReader, StreamEntry, key_of
from engine.services.background import Background
from engine.services.thread_pool import ThreadPool

KEPT = 2_000  # entries in memory
EVENTS_KEPT = 20_000  # in these entries
PAGE = 200
BACKLOG_PAGE = 100  # of what is read from Redis again for one follower: they take turns
BACKLOGS = 2  # pages read from Redis at once
BLOCK_MS = 500
PAUSE_S = 0.2  # before the next try while Redis is away

errors = logging.getLogger("ganger.errors")


class EventBatch(NamedTuple):
    """Some entries, one after the other; none after a silence. `gap`: some before them are gone."""

    entries: list[StreamEntry]
    gap: bool = False


class EventFeed:
    """Started and followed on one event loop; the reader has a thread of its own.

    Args:
        threads: in which what is gone from memory is read again.
    """

    def __init__(self, provider: EngineBrokerProvider, threads: ThreadPool) -> None:
        self._provider, self._threads = provider, threads
        self._kept: deque[tuple[tuple[int, int], StreamEntry]] = deque()
        self.events_kept = 0
        self._backlogs = asyncio.Semaphore(BACKLOGS)
        self._changed = asyncio.Event()
        self._ended: defaultdict[str, set[asyncio.Future[None]]] = defaultdict(set)
        self._stop = threading.Event()
        self.position: str | None = None  # id of the last entry read, or before which nothing was
        self.is_connected = False
        self.has_hung_up = False

    def start(self, background: Background) -> None:
        """Begin to read, in a thread that `background` looks after."""
        self._loop = asyncio.get_running_loop()
        background.keep_thread("feed", self._read)

    def close(self) -> None:
        """End the reader; the background has to be stopped before."""
        self._stop.set()

    def hang_up(self) -> None:
        """End every `follow`: the server is about to go, and would wait for those who listen."""
        self.has_hung_up = True
        for task_id in list(self._ended):
            self._wake(task_id)
        self._changed.set()

    async def end_of(self, task_id: str, wait_s: float) -> None:
        """Wait until a task has ended, or events were missed, or `wait_s` seconds are over."""
        future: asyncio.Future[None] = self._loop.create_future()
        self._ended[task_id].add(future)
        try:
            await asyncio.wait([future], timeout=wait_s)
        finally:
            self._ended[task_id].discard(future)
            if not self._ended[task_id]:
                del self._ended[task_id]

    async def follow(self, after: str | None, patience_s: float = 15.0) -> AsyncIterator[EventBatch]:
        """Yield all entries behind one, without end.

        Args:
            after: id of an entry; None is from now on.
            patience_s: after a silence of so many seconds an empty batch is yielded.

        Raises: `BrokerError` if it has to be read from Redis and that is away; `ValueError` for an id that is none.
        """
        while self.position is None:
            if self.has_hung_up:  # and so `_next` does not wait any more
                return
            await self._next(1.0)
        position = self.position if after is None else after
        key_of(position)
        while not self.has_hung_up:
            batch = self._recent(position)
            if batch is None:
                async with self._backlogs:
                    batch = await self._threads.run(self._older, position)
            if batch.entries:
                position = batch.entries[-1].id
                yield batch
                await asyncio.sleep(0)  # others have their turn, however many entries there are
            elif not await self._next(patience_s):
                yield EventBatch([])

    # -- in the reader's thread -----------------------------------------------------------------------------------

    def _read(self) -> None:
        tail: EventStreamReader | None = None
        while not self._stop.is_set():
            try:
                if tail is None:
                    tail = self._provider.broker().event_stream()
                if self.position is None:
                    self.position = tail.last_id()
                page = tail.follow(self.position, PAGE, BLOCK_MS)
                self._tell(page.entries, is_connected=True, gap=page.gap)
            except GangerError as error:
                if self.is_connected:
                    errors.warning("the stream of events is out of reach", extra={"reason": str(error)})
                self._tell([], is_connected=False)
                self._stop.wait(PAUSE_S)
            except BaseException:
                if tail is not None:
                    tail.close()
                raise
        if tail is not None:
            tail.close()

    def _tell(self, entries: list[StreamEntry], *, is_connected: bool, gap: bool = False) -> None:
        if entries:
            self.position = entries[-1].id
        if entries or is_connected is not self.is_connected:
            try:
                self._loop.call_soon_threadsafe(self._arrived, entries, is_connected, gap)
            except RuntimeError:  # the loop has ended
                self._stop.set()

    def _older(self, position: str) -> EventBatch:
        page = self._provider.broker().event_stream().after(position, BACKLOG_PAGE)
        return EventBatch(page.entries, page.gap)

    # -- in the loop ----------------------------------------------------------------------------------------------

    def _arrived(self, entries: list[StreamEntry], is_connected: bool, gap: bool) -> None:
        recovered = (is_connected and not self.is_connected) or gap
        self.is_connected = is_connected
        if gap:  # what is kept is not all there was any more: a follower that is behind asks Redis, which tells it
            self._forget()
        for entry in entries:
            self._keep(entry)
            if self._ended:
                for event in entry.events:
                    if event.status.is_final and event.id in self._ended:
                        self._wake(event.id)
        if recovered:
            for task_id in list(self._ended):
                self._wake(task_id)
        self._changed.set()
        self._changed = asyncio.Event()

    def _keep(self, entry: StreamEntry) -> None:
        """An entry can have hundreds of events, so that these are counted too."""
        self._kept.append((key_of(entry.id), entry))
        self.events_kept += len(entry.events)
        while len(self._kept) > 1 and (self.events_kept > EVENTS_KEPT or len(self._kept) > KEPT):
            self.events_kept -= len(self._kept.popleft()[1].events)

    def _forget(self) -> None:
        self._kept.clear()
        self.events_kept = 0

    def _wake(self, task_id: str) -> None:
        for future in self._ended[task_id]:
            if not future.done():
                future.set_result(None)

    async def _next(self, patience_s: float) -> bool:
        """Wait for something new; False when the time is up."""
        try:
            await asyncio.wait_for(self._changed.wait(), patience_s)
        except TimeoutError:
            return False
        return True

    def _recent(self, position: str) -> EventBatch | None:
        """What is kept after that entry; None where that is not all there was."""
        key = key_of(position)
        found: list[StreamEntry] = []
        if self.position is not None and key >= key_of(self.position):
            return EventBatch([])
        if not self._kept or key < self._kept[0][0]:
            return None
        for at, entry in reversed(self._kept):
            if at <= key:
                return EventBatch(found[::-1])
            found.append(entry)
        return None
