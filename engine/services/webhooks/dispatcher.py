"""Delivers webhooks: makes a message of each end that a webhook is for, and sends it until it has arrived.

1. One process at a time delivers; the others wait to take over.
2. It reads the stream from where the one before left off.
3. A message is signed, and tried for about a day with growing pauses. Then it is given up, and the log says so.
4. The number of messages under way is bounded. No messages are made of ends beyond that, and the log says so.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from engine.client.operations import read_tasks
from engine.config import Settings
from engine.errors import GangerError
from engine.ports.engine_broker import EngineBrokerProvider
from engine.ports.event_stream import StreamEntry, is_entry_id
from engine.ports.webhooks import OWN, WebhookStore
from engine.services.background import Background
from engine.services.event_feed import EventFeed
from engine.services.thread_pool import ThreadPool
from engine.services.webhooks.messages import Message, messages_of, signed, statuses_of
from engine.services.webhooks.sender import DeliveryFailed, WebhookSender

LEAD_S = 10.0
SAVE_S = 1.0  # how often the position in the stream is saved where no message was made of what was read
TRIES_MAX = 12
PAUSE_FACTOR, PAUSE_S_MAX = 3.0, 6 * 3600.0  # with 5 s at first, the twelfth try comes after 22 hours
AT_ONCE = 32
UNDER_WAY_MAX = 10_000
IDLE_S = 0.25
ROUND_S = 0.1  # ends within it are looked at in one go

log = logging.getLogger("ganger.execution")


class WebhookDispatcher:
    """Two tasks of the event loop: `collect` makes messages, `send` sends them."""

    def __init__(self, settings: Settings, provider: EngineBrokerProvider, feed: EventFeed, threads: ThreadPool,
                 background: Background) -> None:
        self._provider, self._feed, self._threads, self._background = provider, feed, threads, background
        self._sender = WebhookSender(private=settings.webhooks_private)
        self._pause_s = settings.webhooks_retry_s
        self._name = secrets.token_hex(8)
        self.leads = False
        self._saved_s = float("-inf")
        self._sending: dict[str, asyncio.Task[None]] = {}

    @property
    def store(self) -> WebhookStore:
        """The webhooks and their messages in Redis."""
        return self._provider.broker().webhooks

    # -- making messages ------------------------------------------------------------------------------------------

    async def collect(self) -> None:
        """Read the stream while we lead, and make messages of it; without end."""
        while not self._feed.has_hung_up:
            try:
                self.leads = await self._threads.run(self._lead)
                if self.leads:
                    await self._follow(await self._threads.run(self._start))
            except GangerError as error:
                log.debug("no webhooks: Redis is away", extra={"reason": str(error)})
            finally:
                self.leads = False
            await asyncio.sleep(1.0)

    def _lead(self) -> bool:
        return self.store.lock(self._name).take(LEAD_S)

    def _start(self) -> str:
        """Return the position where the process before left off; the first one ever begins now."""
        position = self.store.position()
        if position is not None and not is_entry_id(position):
            log.error("the position of the webhooks in the events cannot be read; they begin anew from now",
                      extra={"position": position[:80]})
            position = None
        if position is None:
            position = self._feed.position or "0-0"
            self.store.advance(self._name, position, {}, 0)
        return position

    async def _follow(self, position: str) -> None:
        """Read until another process leads."""
        renewed_s = time.monotonic()
        async for batch in self._feed.follow(position, LEAD_S / 3):
            if time.monotonic() - renewed_s > LEAD_S / 3:
                if not await self._threads.run(self._lead):
                    return
                renewed_s = time.monotonic()
            if batch.gap:
                log.warning("webhooks missed some ends of tasks: the stream did not have them any more")
            if batch.entries:
                if not await self._threads.run(self._take_on, batch.entries):
                    return
                await asyncio.sleep(ROUND_S)

    def _take_on(self, entries: list[StreamEntry]) -> bool:
        """Make messages of what was read. Returns False where another process leads, which will come to it."""
        store, messages = self.store, dict[str, Message]()
        webhooks = store.all()
        if webhooks:
            messages = self._messages(entries, webhooks)
            if messages and store.count_under_way() + len(messages) > UNDER_WAY_MAX:
                log.error("webhooks missed some ends of tasks: too many messages are under way",
                          extra={"messages": len(messages), "limit": UNDER_WAY_MAX})
                messages = {}
        if messages or time.monotonic() - self._saved_s > SAVE_S:
            if not store.advance(self._name, entries[-1].id, messages, self._provider.broker().clock.now_ms()):
                return False
            self._saved_s = time.monotonic()
        return True

    def _messages(self, entries: list[StreamEntry], webhooks: Mapping[str, dict[str, Any]]) -> dict[str, Message]:
        statuses, messages = statuses_of(webhooks), dict[str, Message]()
        ends = [(entry.id, event) for entry in entries for event in entry.events
                if event.status.is_final and (statuses is None or event.status in statuses)]
        ids = list(dict.fromkeys(event.id for _, event in ends))
        found = dict(zip(ids, read_tasks(self._provider.broker(), ids), strict=True)) if ids else {}
        for entry_id, event in ends:
            stored = found[event.id]
            try:
                if stored is not None:
                    messages.update(messages_of(entry_id, event, stored, webhooks))
            except Exception as error:
                log.error("no webhook message could be made of an end", exc_info=error, extra={"task_id": event.id})
        return messages

    # -- sending them ---------------------------------------------------------------------------------------------

    async def send(self) -> None:
        """Send what is due, AT_ONCE messages at a time; without end."""
        while not self._feed.has_hung_up:
            try:
                if self.leads and (due := await self._threads.run(self._due)):
                    webhooks = await self._threads.run(lambda: self.store.all())
                    for message_id, message in list(due.items())[:AT_ONCE - len(self._sending)]:
                        self._begin(message_id, message, webhooks)
            except GangerError as error:
                log.debug("webhooks wait: Redis is away", extra={"reason": str(error)})
            if self._sending:
                await asyncio.wait(self._sending.values(), timeout=IDLE_S, return_when=asyncio.FIRST_COMPLETED)
            else:
                await asyncio.sleep(IDLE_S)

    def _due(self) -> dict[str, Message]:
        if len(self._sending) >= AT_ONCE:
            return {}
        sending = set(self._sending)
        found = self.store.due(self._provider.broker().clock.now_ms(), AT_ONCE + len(sending))
        return {message_id: message for message_id, message in found.items() if message_id not in sending}

    def _begin(self, message_id: str, message: Message, webhooks: Mapping[str, dict[str, Any]]) -> None:
        task = self._background.once("webhook message", self._deliver(message_id, message, webhooks))
        self._sending[message_id] = task
        task.add_done_callback(lambda _: self._sending.pop(message_id, None))

    async def _deliver(self, message_id: str, message: Message, webhooks: Mapping[str, dict[str, Any]]) -> None:
        webhook = webhooks.get(message["webhook"] or OWN)
        body, now_s = orjson.dumps(message["body"]), self._provider.broker().clock.now_ms() // 1000
        facts = {"url": message["url"], "task_id": message["task_id"], "tries": message["tries"] + 1}
        try:
            if webhook is not None:  # else it was removed meanwhile
                await self._sender.post(message["url"], body, signed(message_id, now_s, body, webhook["secret"]))
        except DeliveryFailed as error:
            await self._failed(message_id, message, error, facts)
            return
        except Exception as error:  # noqa: BLE001  whatever it was, it was a try
            reason = DeliveryFailed(f"{type(error).__name__}: {error}")
            await self._failed(message_id, message, reason, facts)
            return
        await self._note(lambda: self.store.done(message_id))
        if webhook is not None:
            log.info("a webhook was delivered", extra=facts)

    async def _failed(self, message_id: str, message: Message, error: DeliveryFailed, facts: dict[str, Any]) -> None:
        tries = message["tries"] + 1
        if error.is_final or tries >= TRIES_MAX:
            log.error("a webhook was given up", extra={**facts, "reason": str(error)})
            await self._note(lambda: self.store.done(message_id))
            return
        pause_s = min(self._pause_s * PAUSE_FACTOR ** (tries - 1), PAUSE_S_MAX) * (1 + secrets.randbelow(100) / 1000)
        again = {**message, "tries": tries, "last_error": str(error)[:500]}
        await self._note(lambda: self.store.again(
            message_id, again, self._provider.broker().clock.now_ms() + int(pause_s * 1000)))
        log.warning("a webhook did not arrive", extra={**facts, "reason": str(error), "pause_s": round(pause_s, 1)})

    async def _note(self, write: Callable[[], None]) -> None:
        """Where Redis is away the message stays as it was, and is sent again."""
        try:
            await self._threads.run(write)
        except GangerError as error:
            log.warning("the result of a webhook message could not be saved", extra={"reason": str(error)})

    def resign(self) -> None:
        """Let another process lead at once. Called in a thread. Raises `BrokerError`."""
        self.store.lock(self._name).give_up()
