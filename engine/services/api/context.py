"""What all endpoints of one API process share: the client, its threads, the feed, the keys."""

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from starlette.requests import Request

from engine.client.operator import Operator
from engine.config import Settings
from engine.core.task.stored_task import StoredTask
from engine.errors import BrokerFull, GangerError, TaskNotFound
from engine.ports.client_broker import Submission
from engine.services.api.batching import Gathering
from engine.services.api.health import Health
from engine.services.api.http.access import Access, Guest, is_loopback
from engine.services.api.http.problems import Refused
from engine.services.api.http.rates import Rates
from engine.services.background import Background
from engine.services.event_feed import Feed
from engine.services.metrics import tracing
from engine.services.metrics.tracing import Tracing
from engine.services.metrics.watching import Watching
from engine.services.thread_pool import Hands
from engine.services.webhooks import targets
from engine.services.webhooks.deliveries import Deliveries

KEYS_S = 1.0  # how often the keys are read
FIRST_KEYS_S = 2.0  # how long the first call may wait for them
DEPTHS_S = 0.5  # how often the depths of the queues are

log = logging.getLogger("ganger.execution")


class Wish(NamedTuple):
    """A task that somebody wants to submit."""

    task: dict[str, Any]
    guest: Guest


class Desk:
    """Made once for each process of the API, before its event loop; `open` and `close` are called on that."""

    def __init__(self, settings: Settings, *, is_child: bool = False) -> None:
        self.settings, self.is_child = settings, is_child
        self.operator = Operator(settings)
        self.started_s = time.time()
        is_local = is_loopback(settings.api_host)
        self.access = Access(is_open=settings.api_open or is_local, is_local=is_local)
        self.rates = Rates()
        self.hands = Hands()
        self.submits: Gathering[Wish, StoredTask] = Gathering("submit", self._submit)
        self.reads: Gathering[str, StoredTask] = Gathering("read", self._read)
        self.tracing: Tracing | None = None
        self.body_bytes = 0  # of all requests under way
        self.listeners = 0  # answers without end that are under way
        self._depths: tuple[float, dict[str, int]] = (float("-inf"), {})
        self.background = Background()
        self.large_bodies = asyncio.Semaphore(1)  # parsed at once: parsing one holds up all Python of this process
        self.health = Health(self.operator, self.hands, self.background)

    async def open(self) -> None:
        self.feed = Feed(self.operator, self.hands)
        self.feed.start(self.background)
        with suppress(TimeoutError):  # calls that come first find the keys known, unless Redis is away
            await asyncio.wait_for(self._learn_keys(), FIRST_KEYS_S)
        self.tracing = tracing.found()
        self.watching = Watching(self.operator, self.feed, self.hands, self._ended)
        self.deliveries = Deliveries(self.operator, self.feed, self.hands, self.background)
        for name, work in (("keys", self._keep_keys), ("figures", self.watching.follow),
                           ("webhook messages", self.deliveries.collect), ("webhook sender", self.deliveries.send)):
            self.background.keep(name, work)

    def hang_up(self) -> None:
        """The server is about to go: let those go that would listen for ever."""
        self.background.stop()
        self.feed.hang_up()

    async def close(self) -> None:
        self.background.close()
        with suppress(GangerError):  # the lead lapses by itself
            await self.hands.do(self.deliveries.resign)
        if self.tracing is not None:
            await self.hands.do(self.tracing.close)
        self.feed.close()
        for gathering in (self.submits, self.reads):
            gathering.close()
        self.hands.close()
        self.operator.close()

    # -- what endpoints use ---------------------------------------------------------------------------------------

    async def task(self, task_id: str, guest: Guest) -> StoredTask:
        """Raises `TaskNotFound`, also for a task of a queue that the guest may not see."""
        stored = await self.reads.ask(task_id)
        if not guest.sees(stored.record.queue):
            raise TaskNotFound(task_id)
        return stored

    async def ended_task(self, task_id: str, guest: Guest, wait_s: float) -> StoredTask:
        """The task, after waiting for its end as long."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + wait_s
        while True:
            stored = await self.task(task_id, guest)
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
            self.access.learn(await self.hands.do(self.operator.api_keys))
        except GangerError:
            log.debug("the keys could not be read")

    # -- in threads -----------------------------------------------------------------------------------------------

    def _submit(self, wishes: Sequence[Wish]) -> list[StoredTask | Exception]:
        return self.submit_all(wishes)

    def submit_all(self, wishes: Sequence[Wish | Exception], *,
                   all_or_nothing: bool = False) -> list[StoredTask | Exception]:
        """Check each, write those that pass in one go; for each what became of it. What is an exception stays so.

        With `all_or_nothing` nothing is written if one does not pass, and only those that do not are told of.
        """
        made = [wish if isinstance(wish, Exception) else self._prepared(wish) for wish in wishes]
        if all_or_nothing and not any(isinstance(one, Exception) for one in made):
            submissions = [one for one in made if isinstance(one, Submission)]
            made = [fault or one for one, fault in zip(made, self.operator.key_faults(submissions), strict=True)]
        if all_or_nothing and any(isinstance(one, Exception) for one in made):
            return [one if isinstance(one, Exception) else Refused(424, "another task was refused") for one in made]
        good = [one for one in made if isinstance(one, Submission)]
        written = iter(self.operator.commit(good) if good else [])
        became: list[StoredTask | Exception] = []
        for one, wish in zip(made, wishes, strict=True):
            if isinstance(one, Submission) and isinstance(wish, Wish):
                became.append(_if_seen(next(written), wish.guest))
            elif isinstance(one, Exception):
                became.append(one)
        return became

    def _prepared(self, wish: Wish) -> Submission | Exception:
        task, guest = wish
        try:
            if "webhook" in task:
                targets.check(task["webhook"]["url"], "webhook.url", private=self.settings.webhooks_private)
            if self.tracing is not None:
                self._trace(self.tracing, task)
            submission = self.operator.prepare(task)
            guest.must_see(submission.record.queue)
            self.must_have_room(submission.record.queue)
        except GangerError as error:
            return error
        return submission

    @staticmethod
    def _trace(tracer: Tracing, task: dict[str, Any]) -> None:
        if carried := tracer.submitted(task.get("traceparent"), task["task_type"]):
            task["traceparent"] = carried

    def _ended(self, stored: StoredTask) -> None:
        if self.tracing is not None and self.deliveries.leads:
            self.tracing.ended(stored)

    def _read(self, task_ids: Sequence[str]) -> list[StoredTask | Exception]:
        found = self.operator.look(task_ids)
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
            depths = {stats.queue: stats.total for stats in self.operator.queue_stats()}
            self._depths = time.monotonic(), depths
        if depths.get(queue, 0) >= most:
            raise BrokerFull(f"{depths[queue]} tasks wait in the queue {queue}, and {most} may")
        depths[queue] = depths.get(queue, 0) + 1


def _if_seen(written: StoredTask | Exception, guest: Guest) -> StoredTask | Exception:
    """What was written, if the caller may see it."""
    if isinstance(written, StoredTask) and not guest.sees(written.record.queue):
        return Refused(409, "this idempotency key stands for a task that this key may not see", field="idempotency_key")
    return written


def desk_of(request: Request) -> Desk:
    desk: Desk = request.scope["desk"]
    return desk


def guest_of(request: Request) -> Guest:
    guest: Guest = request.scope["guest"]
    return guest
