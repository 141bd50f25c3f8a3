"""What all endpoints of one API process share: the client, the threads it is called in, the events, the callers."""

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import suppress

from starlette.requests import Request

from engine.client.client import Client
from engine.client.operations import TaskOperations
from engine.client.provider import RedisBrokerProvider
from engine.config import Settings
from engine.core.task.stored_task import StoredTask
from engine.errors import GangerError, TaskNotFound
from engine.ports.api_keys import ApiKeyTable
from engine.ports.engine_broker import EngineBroker
from engine.services.api.health import Health
from engine.services.api.http.authentication import Authenticator, Principal, is_loopback, marked_table
from engine.services.api.http.rate_limiter import RateLimiter
from engine.services.api.request_batcher import RequestBatcher
from engine.services.api.submitter import SubmitRequest, TaskSubmitter
from engine.services.background import Background
from engine.services.event_feed import EventFeed
from engine.services.metrics import tracing
from engine.services.metrics.collector import MetricsCollector
from engine.services.thread_pool import ThreadPool
from engine.services.webhooks.dispatcher import WebhookDispatcher

KEYS_S = 1.0  # how often the keys are read
FIRST_KEYS_S = 2.0  # how long the first call may wait for them

log = logging.getLogger("ganger.execution")


class ApiContext:
    """Made once for each process of the API, before its event loop; `open` and `close` are called on that.

    Args:
        is_child: whether the process is a child of the root.
    """

    def __init__(self, settings: Settings, *, is_child: bool = False) -> None:
        self.settings, self.is_child = settings, is_child
        self.provider = RedisBrokerProvider(settings)
        self.client = Client(settings=settings, provider=self.provider)
        self.operations = TaskOperations(self.client, self.provider)
        self.started_s = time.time()
        is_local = is_loopback(settings.api_host)
        self.authenticator = Authenticator(is_open=settings.api_open or is_local, is_local=is_local)
        self.rate_limiter = RateLimiter()
        self.threads = ThreadPool()
        self.submitter = TaskSubmitter(settings, self.client, self.operations)
        self.submit_batcher: RequestBatcher[SubmitRequest, StoredTask] = RequestBatcher(
            "submit", self.submitter.submit)
        self.read_batcher: RequestBatcher[str, StoredTask] = RequestBatcher("read", self._read)
        self.tracing: tracing.Tracing | None = None
        self.body_bytes = 0  # of all requests under way
        self.listeners = 0  # event streams that are under way
        self.background = Background()
        self.large_bodies = asyncio.Semaphore(1)  # parsed at once: parsing one holds up all Python of this process
        self.health = Health(self.provider, self.threads, self.background)

    async def open(self) -> None:
        """Begin all that runs beside the endpoints."""
        self.feed = EventFeed(self.provider, self.threads)
        self.feed.start(self.background)
        with suppress(TimeoutError):  # calls that come first find the keys known, unless Redis is away
            await asyncio.wait_for(self._learn_keys(), FIRST_KEYS_S)
        self.submitter.tracing = self.tracing = tracing.found()
        self.metrics = MetricsCollector(self.provider, self.feed, self.threads, self._trace_end)
        self.webhooks = WebhookDispatcher(self.settings, self.provider, self.feed, self.threads, self.background)
        for name, work in (("keys", self._keep_keys), ("figures", self.metrics.follow),
                           ("webhook messages", self.webhooks.collect), ("webhook sender", self.webhooks.send)):
            self.background.keep(name, work)

    def hang_up(self) -> None:
        """End the answers that would never end by themselves: the server is about to go."""
        self.background.stop()
        self.feed.hang_up()

    async def close(self) -> None:
        """End all that runs beside the endpoints, and let another process lead."""
        self.background.close()
        with suppress(GangerError):  # the lead lapses by itself
            await self.threads.run(self.webhooks.resign)
        if self.tracing is not None:
            await self.threads.run(self.tracing.close)
        self.feed.close()
        for batcher in (self.submit_batcher, self.read_batcher):
            batcher.close()
        self.threads.close()
        self.client.close()

    # -- what endpoints use ---------------------------------------------------------------------------------------

    async def task(self, task_id: str, principal: Principal) -> StoredTask:
        """Read a task. Raises `TaskNotFound`, also for a task of a queue that the caller may not see; `BrokerError`."""
        stored = await self.read_batcher.call(task_id)
        if not principal.sees(stored.record.queue):
            raise TaskNotFound(task_id)
        return stored

    async def ended_task(self, task_id: str, principal: Principal, wait_s: float) -> StoredTask:
        """Read a task after its end, or as it is after `wait_s` seconds. Raises as `task` does."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + wait_s
        while True:
            stored = await self.task(task_id, principal)
            left_s = until_s - loop.time()
            if stored.state.status.is_final or left_s <= 0:
                return stored
            await self.feed.end_of(task_id, min(left_s, 2.0))

    async def _keep_keys(self) -> None:
        while not self.feed.has_hung_up:
            await self._learn_keys()
            await asyncio.sleep(KEYS_S)

    async def _learn_keys(self) -> None:
        try:
            self.authenticator.learn(await self.threads.run(self._key_table))
        except GangerError:
            log.debug("the keys could not be read")

    @property
    def broker(self) -> EngineBroker:
        """The broker, connected. Raises `BrokerError` or, where the embedded Redis does not start, `EngineError`."""
        return self.provider.broker()

    def _key_table(self) -> ApiKeyTable:
        return marked_table(self.broker.api_keys)

    def _trace_end(self, stored: StoredTask) -> None:
        if self.tracing is not None and self.webhooks.leads:
            self.tracing.ended(stored)

    def _read(self, task_ids: Sequence[str]) -> list[StoredTask | Exception]:
        found = self.operations.read(task_ids)
        return [TaskNotFound(task_id) if stored is None else stored
                for task_id, stored in zip(task_ids, found, strict=True)]


def context_of(request: Request) -> ApiContext:
    """Return what all endpoints share."""
    context: ApiContext = request.scope["context"]
    return context


def principal_of(request: Request) -> Principal:
    """Return who has made a request."""
    principal: Principal = request.scope["principal"]
    return principal
