"""The events as they happen: one reader of Redis's stream for all who follow them here.

A follower that is near the end is served from memory, one that comes back
late from Redis, and one that comes back too late is told so.
"""

import asyncio
import logging
import threading
from collections import defaultdict, deque
from collections.abc import AsyncIterator
from typing import NamedTuple

from engine.adapters.redis.streaming import Entry, Tail, key_of
from engine.client.operator import Operator
from engine.errors import GangerError
from engine.services.api.hands import Hands

KEPT = 2_000  # entries in memory
PAGE = 500
BLOCK_MS = 500
PAUSE_S = 0.2  # before the next try while Redis is away

errors = logging.getLogger("ganger.errors")


class Batch(NamedTuple):
    """Some entries, one after the other. `gap`: some before them are not there any more."""

    entries: list[Entry]
    gap: bool = False


class Feed:
    """Started and followed on one event loop; the reader has a thread of its own."""

    def __init__(self, operator: Operator, hands: Hands) -> None:
        self._operator, self._hands = operator, hands
        self._kept: deque[tuple[tuple[int, int], Entry]] = deque(maxlen=KEPT)
        self._changed = asyncio.Event()
        self._ended: defaultdict[str, set[asyncio.Future[None]]] = defaultdict(set)
        self._stop = threading.Event()
        self.position: str | None = None  # id of the last entry read, or before which nothing was
        self.is_connected = False
        self.has_hung_up = False

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._read, name="feed", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()

    def hang_up(self) -> None:
        """End every `follow`: the server is about to go, and would wait for those that listen."""
        self.has_hung_up = True
        for task_id in list(self._ended):
            self._wake(task_id)
        self._changed.set()

    async def end_of(self, task_id: str, wait_s: float) -> None:
        """Wait until the task has ended, or something was missed, or the time is up."""
        future: asyncio.Future[None] = self._loop.create_future()
        self._ended[task_id].add(future)
        try:
            await asyncio.wait([future], timeout=wait_s)
        finally:
            self._ended[task_id].discard(future)
            if not self._ended[task_id]:
                del self._ended[task_id]

    async def follow(self, after: str | None, patience_s: float = 15.0) -> AsyncIterator[Batch]:
        """Everything after that entry, for ever; None is from now on. After a silence of `patience_s` an empty batch.

        Raises `BrokerError` where it has to be read from Redis and that is away; `ValueError` for an id that is none.
        """
        while self.position is None:
            await self._next(1.0)
        position = self.position if after is None else after
        key_of(position)
        gap = after is not None and await self._hands.do(self._is_gone, position)
        while not self.has_hung_up:
            entries = self._recent(position)
            if entries is None:
                entries = await self._hands.do(self._older, position)
            if entries:
                position = entries[-1].id
            if entries or gap:
                yield Batch(entries, gap)
                gap = False
            elif not await self._next(patience_s):
                yield Batch([])

    # -- in the reader's thread -----------------------------------------------------------------------------------

    def _read(self) -> None:
        tail: Tail | None = None
        while not self._stop.is_set():
            try:
                if tail is None:
                    broker = self._operator.broker
                    tail = Tail(broker.redis, broker.keys)
                if self.position is None:
                    self.position = tail.last_id()
                entries = tail.follow(self.position, PAGE, BLOCK_MS)
                self._tell(entries, is_connected=True)
            except GangerError as error:
                if self.is_connected:
                    errors.warning("the stream of events is out of reach", extra={"reason": str(error)})
                self._tell([], is_connected=False)
                self._stop.wait(PAUSE_S)
        if tail is not None:
            tail.close()

    def _tell(self, entries: list[Entry], *, is_connected: bool) -> None:
        if entries:
            self.position = entries[-1].id
        if entries or is_connected is not self.is_connected:
            try:
                self._loop.call_soon_threadsafe(self._arrived, entries, is_connected)
            except RuntimeError:  # the loop has ended
                self._stop.set()

    def _is_gone(self, position: str) -> bool:
        broker = self._operator.broker
        tail = Tail(broker.redis, broker.keys)
        return key_of(position) < key_of(tail.first_id()) and key_of(position) > (0, 0)

    def _older(self, position: str) -> list[Entry]:
        broker = self._operator.broker
        return Tail(broker.redis, broker.keys).after(position, PAGE)

    # -- in the loop ----------------------------------------------------------------------------------------------

    def _arrived(self, entries: list[Entry], is_connected: bool) -> None:
        recovered = is_connected and not self.is_connected
        self.is_connected = is_connected
        for entry in entries:
            self._kept.append((key_of(entry.id), entry))
            if self._ended:
                for event in entry.events:
                    if event.status.is_final and event.id in self._ended:
                        self._wake(event.id)
        if recovered:
            for task_id in list(self._ended):
                self._wake(task_id)
        self._changed.set()
        self._changed = asyncio.Event()

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

    def _recent(self, position: str) -> list[Entry] | None:
        """What is kept after that entry; None where that is not all there was."""
        key = key_of(position)
        found: list[Entry] = []
        if self.position is not None and key >= key_of(self.position):
            return []
        for at, entry in reversed(self._kept):
            if at <= key:
                return found[::-1]
            found.append(entry)
        return None
