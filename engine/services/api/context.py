"""What all endpoints of one API process share: the client, its threads, the feed, the keys."""

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from starlette.requests import Request

from engine.client.client import Client
from engine.client.operations import TaskOperations
from engine.client.provider import RedisBrokerProvider
from engine.config import Settings
from engine.core.task.stored_task import StoredTask
from engine.errors import BrokerFull, GangerError, TaskNotFound
from engine.ports.api_keys import ApiKeyTable
from engine.ports.client_broker import Submission
from engine.ports.engine_broker import EngineBroker
from engine.services.api.health import Health
from engine.services.api.http.authentication import Authenticator, Principal, is_loopback, marked_table
from engine.services.api.http.problems import HttpError
from engine.services.api.http.rate_limiter import RateLimiter
from engine.services.api.request_batcher import RequestBatcher
from engine.services.background import Background
from engine.services.event_feed import EventFeed
from engine.services.metrics import tracing
from engine.services.metrics.collector import MetricsCollector
from engine.services.metrics.tracing import Tracing
from engine.services.thread_pool import ThreadPool
from engine.services.webhooks.addresses import check_url
from engine.services.webhooks.dispatcher import WebhookDispatcher

KEYS_S = 1.0  # how often the keys are read
FIRST_KEYS_S = 2.0  # how long the first call may wait for them
DEPTHS_S = 0.5  # how often the depths of the queues are

log = logging.getLogger("ganger.execution")


class SubmitRequest(NamedTuple):
    """A task that somebody wants to submit."""

    task: dict[str, Any]
    principal: Principal


class ApiContext:
    """Made once for each process of the API, before its event loop; `open` and `close` are called on that."""

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
        self.submit_batcher: RequestBatcher[SubmitRequest, StoredTask] = RequestBatcher("submit", self._submit)
        self.read_batcher: RequestBatcher[str, StoredTask] = RequestBatcher("read", self._read)
        self.tracing: Tracing | None = None
        self.body_bytes = 0  # of all requests under way
        self.listeners = 0  # answers without end that are under way
        self._depths: tuple[float, dict[str, int]] = (float("-inf"), {})
        self.background = Background()
        self.large_bodies = asyncio.Semaphore(1)  # parsed at once: parsing one holds up all Python of this process
        self.health = Health(self.provider, self.threads, self.background)

    async def open(self) -> None:
        self.feed = EventFeed(self.provider, self.threads)
        self.feed.start(self.background)
        with suppress(TimeoutError):  # calls that come first find the keys known, unless Redis is away
            await asyncio.wait_for(self._learn_keys(), FIRST_KEYS_S)
        self.tracing = tracing.found()
        self.metrics = MetricsCollector(self.provider, self.feed, self.threads, self._ended)
        self.webhooks = WebhookDispatcher(self.settings, self.provider, self.feed, self.threads, self.background)
        for name, work in (("keys", self._keep_keys), ("figures", self.metrics.follow),
                           ("webhook messages", self.webhooks.collect), ("webhook sender", self.webhooks.send)):
            self.background.keep(name, work)

    def hang_up(self) -> None:
        """The server is about to go: let those go that would listen for ever."""
        self.background.stop()
        self.feed.hang_up()

    async def close(self) -> None:
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
        """Raises `TaskNotFound`, also for a task of a queue that the principal may not see."""
        stored = await self.read_batcher.call(task_id)
        if not principal.sees(stored.record.queue):
            raise TaskNotFound(task_id)
        return stored

    async def ended_task(self, task_id: str, principal: Principal, wait_s: float) -> StoredTask:
        """The task, after waiting for its end as long."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + wait_s
        while True:
            stored = await self.task(task_id, principal)
            left_s = until_s - loop.time()
            if stored.life.status.is_final or left_s <= 0:
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

    # -- in threads -----------------------------------------------------------------------------------------------

    def _key_table(self) -> ApiKeyTable:
        return marked_table(self.broker.api_keys)

    def _submit(self, requests: Sequence[SubmitRequest]) -> list[StoredTask | Exception]:
        return self.submit_all(requests)

    def submit_all(self, requests: Sequence[SubmitRequest | Exception], *,
                   all_or_nothing: bool = False) -> list[StoredTask | Exception]:
        """Check each, write those that pass in one go; for each what became of it. What is an exception stays so.

        With `all_or_nothing` nothing is written if one does not pass, and only those that do not are told of.
        """
        made = [request if isinstance(request, Exception) else self._prepared(request) for request in requests]
        if all_or_nothing and not any(isinstance(one, Exception) for one in made):
            submissions = [one for one in made if isinstance(one, Submission)]
            made = [fault or one for one, fault in zip(made, self.operations.conflicts(submissions), strict=True)]
        if all_or_nothing and any(isinstance(one, Exception) for one in made):
            return [one if isinstance(one, Exception) else HttpError(424, "another task was refused") for one in made]
        good = [one for one in made if isinstance(one, Submission)]
        written = iter(self.operations.write(good) if good else [])
        became: list[StoredTask | Exception] = []
        for one, request in zip(made, requests, strict=True):
            if isinstance(one, Submission) and isinstance(request, SubmitRequest):
                became.append(_if_seen(next(written), request.principal))
            elif isinstance(one, Exception):
                became.append(one)
        return became

    def _prepared(self, request: SubmitRequest) -> Submission | Exception:
        task, principal = request
        try:
            if "webhook" in task:
                check_url(task["webhook"]["url"], "webhook.url", private=self.settings.webhooks_private)
            if self.tracing is not None:
                self._trace(self.tracing, task)
            submission = self.operations.prepare(task)
            principal.must_see(submission.record.queue)
            self.must_have_room(submission.record.queue)
        except GangerError as error:
            return error
        return submission

    @staticmethod
    def _trace(tracer: Tracing, task: dict[str, Any]) -> None:
        if carried := tracer.submitted(task.get("traceparent"), task["task_type"]):
            task["traceparent"] = carried

    def _ended(self, stored: StoredTask) -> None:
        if self.tracing is not None and self.webhooks.leads:
            self.tracing.ended(stored)

    def _read(self, task_ids: Sequence[str]) -> list[StoredTask | Exception]:
        found = self.operations.read(task_ids)
        return [TaskNotFound(task_id) if stored is None else stored
                for task_id, stored in zip(task_ids, found, strict=True)]

    def must_have_room(self, queue: str) -> None:
        """Raises `BrokerFull` where a queue is at its limit, as it was at most half a second ago with what came since.
        """
        most = self.settings.api_queue_tasks_max
        if not most:
            return
        read_s, depths = self._depths
        if time.monotonic() - read_s > DEPTHS_S:
            depths = {stats.queue: stats.total for stats in self.client.queues.stats()}
            self._depths = time.monotonic(), depths
        if depths.get(queue, 0) >= most:
            raise BrokerFull(f"{depths[queue]} tasks wait in the queue {queue}, and {most} may")
        depths[queue] = depths.get(queue, 0) + 1


def _if_seen(written: StoredTask | Exception, principal: Principal) -> StoredTask | Exception:
    """What was written, if the caller may see it."""
    if isinstance(written, StoredTask) and not principal.sees(written.record.queue):
        return HttpError(409, "this idempotency key stands for a task that this key may not see",
                         field="idempotency_key")
    return written


def context_of(request: Request) -> ApiContext:
    context: ApiContext = request.scope["context"]
    return context


def principal_of(request: Request) -> Principal:
    principal: Principal = request.scope["principal"]
    return principal
