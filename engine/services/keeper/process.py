"""Puts the keeper together from the real parts, for its process."""

import logging
import time
from collections.abc import Callable
from typing import Any

import orjson

from engine.adapters.clock import RedisClock
from engine.adapters.poller import EpollPoller
from engine.adapters.redis.keeper.keeper_broker import PROCESSES_S, RedisKeeperBroker
from engine.adapters.redis.tasks.broker import RedisClientBroker
from engine.adapters.redis.tasks.task_actions import CONTROL
from engine.adapters.redis.wire.supervisor_link import Connected, Pushed, SupervisorLink
from engine.errors import BrokerError
from engine.services import composition
from engine.services.bootstrap import Bootstrap
from engine.services.keeper.duties.storage import StorageCheck
from engine.services.keeper.duties.unknown_types import UnknownTypes
from engine.services.keeper.duty_list import make_rounds
from engine.services.keeper.presence import SupervisorPresence
from engine.services.keeper.reports import SupervisorReports
from engine.services.keeper.rounds import Rounds
from engine.services.keeper.sampling import ProcessSampler

ORDER_BYTES_MAX = 16_384
MOMENT_DIGITS_MAX = 14  # of a moment in ms
_CALL_S = 5.0  # bound of one call to Redis

errors = logging.getLogger("ganger.errors")


class KeeperLoop:
    """Goes its rounds when they are due or a wakeup comes, and has the processes measured at their interval.

    Args:
        broker: closed at the end.
        wakeup_link: receives the wakeups of the keepers.
        tell_root: sends a message to the root.
    """

    def __init__(self, rounds: Rounds, sampler: ProcessSampler, broker: RedisClientBroker, wakeup_link: SupervisorLink,
                 poller: EpollPoller, tell_root: Callable[[dict[str, Any]], None]) -> None:
        self.rounds, self.sampler, self.broker = rounds, sampler, broker
        self.wakeup_link, self.poller = wakeup_link, poller
        self.tell_root = tell_root
        self.is_done = False
        self._said_ready = False
        self._round_s = 0.0

    def turn(self, patience_s: float) -> None:
        """Wait for what is next, `patience_s` at most, and do it."""
        now_s = time.monotonic()
        wake_s = min(self._round_s, self.sampler.next_s, self.wakeup_link.next_deadline_s())
        self.poller.wait(max(0.0, min(patience_s, wake_s - now_s)))
        now_s = time.monotonic()
        self.wakeup_link.tick(now_s)
        for event in self.wakeup_link.events():
            if isinstance(event, Pushed) and event.message.startswith(CONTROL):
                self._hand_on(event.message.removeprefix(CONTROL))
            elif isinstance(event, (Pushed, Connected)):
                self._ring(event.message if isinstance(event, Pushed) else b"", now_s)
        if now_s >= self._round_s:
            self._round_s = now_s + self.rounds.go()
        self.sampler.run(now_s)
        if not self._said_ready:
            self._said_ready = True
            self.tell_root({"is": "ready"})

    def _ring(self, due_ms: bytes, now_s: float) -> None:
        """Go a round, by the moment that the wakeup named if it named one."""
        is_moment = due_ms.isdigit() and len(due_ms) <= MOMENT_DIGITS_MAX  # anybody may ring
        in_s = max(0.0, (int(due_ms) - self.wakeup_link.clock.now_ms()) / 1000) if is_moment else 0.0
        self.rounds.ring(in_s)
        self._round_s = min(self._round_s, now_s + in_s)

    def learn(self, children: dict[str, Any]) -> None:
        """Take over what the root says of its children: see `ProcessSampler.learn`."""
        self.sampler.learn(children)

    def _hand_on(self, text: bytes) -> None:
        """Pass on what somebody asks of the root, which hears of Redis through the keeper only."""
        try:
            order = orjson.loads(text) if len(text) <= ORDER_BYTES_MAX else None
        except ValueError:
            order = None
        if isinstance(order, dict):
            self.tell_root({"is": "asked", "order": order})
        else:
            errors.warning("an order that makes no sense", extra={"order": text[:200].decode(errors="replace")})

    def drain(self) -> None:
        self.is_done = True

    def stop(self) -> None:
        self.is_done = True

    def close(self) -> int:
        try:
            self.rounds.resign()
        except BrokerError:
            errors.info("Redis is away; the lead will lapse by itself")
        self.wakeup_link.close()
        self.broker.close()
        return 0


def make_loop(name: str, bootstrap: Bootstrap, poller: EpollPoller,
              tell_root: Callable[[dict[str, Any]], None]) -> KeeperLoop:
    """Make the loop of a keeper's process; `name` is its name in the tree."""
    settings = bootstrap.settings
    assert settings.redis_url is not None
    broker = RedisClientBroker(settings.redis_url, prefix=settings.queue_prefix, timeout_s=_CALL_S,
                    failed_ttl_s=settings.failed_ttl_s, idempotency_ttl_s=settings.idempotency_ttl_s)
    keeping = RedisKeeperBroker(broker, settings.max_rescues)
    reports = SupervisorReports(keeping.supervisors)
    storage = StorageCheck(broker.info, lambda reason: tell_root({"is": "refused", "reason": reason}),
                           allow_eviction=settings.allow_eviction)
    rounds = make_rounds(composition.supervisor_name("keeper"), keeping, reports, SupervisorPresence(reports),
                         settings.lease_s, more=[storage, UnknownTypes(broker.unknown_types, time.monotonic)])
    wakeup_link = SupervisorLink(settings.redis_url, broker.keys.keeper_wakeup, RedisClock(), poller)
    kept_s = max(PROCESSES_S, 2 * settings.sample_interval_s)
    sampler = ProcessSampler(
        lambda host, root_pid, samples, entry: keeping.publish_processes(host, root_pid, samples, entry, kept_s),
        settings.sample_interval_s, wakeup_link.clock.now_ms)
    return KeeperLoop(rounds, sampler, broker, wakeup_link, poller, tell_root)
