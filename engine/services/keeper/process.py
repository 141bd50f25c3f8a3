"""Puts the keeper together from the real parts, for its process. It also measures the processes of its tree."""

import logging
import os
import time
from collections.abc import Callable
from typing import Any

import orjson

from engine.adapters.clock import RedisClock
from engine.adapters.poller import EpollPoller
from engine.adapters.process.kernel.descendants import descendants
from engine.adapters.process.kernel.probe import Probe, host_name
from engine.adapters.redis.keeper.keeping import PROCESSES_S, KeeperBroker
from engine.adapters.redis.tasks.broker import Broker
from engine.adapters.redis.tasks.waits_for import shown
from engine.adapters.redis.wire.supervisor_link import Connected, Pushed, SupervisorLink
from engine.core.measure.usage_history import ENTRY_S, Recorder, names
from engine.errors import BrokerError
from engine.services import composition
from engine.services.keeper.neighbours import Neighbours
from engine.services.keeper.reports import Reports
from engine.services.keeper.rounds import Rounds
from engine.services.keeper.sampling import Sampling
from engine.services.keeper.storage import StorageWatch
from engine.services.tree.bootstrap import Bootstrap

CONTROL = b"control "  # begins what is rung for the root: an order as JSON
ORDER_BYTES_MAX = 16_384
MOMENT_DIGITS_MAX = 14  # of a moment in ms
UNKNOWN_S = 60.0  # between two lines of the log about types that no pool knows
TOGETHER_S = 0.1  # samples that are due so soon are taken in the same awakening
_CALL_S = 5.0  # bound of one call to Redis

errors = logging.getLogger("ganger.errors")


class KeeperLoop:
    """Goes its rounds when they are due or the bell rings, and publishes a sample of the tree at its interval."""

    def __init__(self, rounds: Rounds, broker: Broker, keeping: KeeperBroker, bell: SupervisorLink, poller: EpollPoller,
                 sample_interval_s: float, tell_root: Callable[[dict[str, Any]], None],
                 *, allow_eviction: bool = False) -> None:
        self.rounds, self.broker, self.keeping, self.bell, self.poller = rounds, broker, keeping, bell, poller
        self.storage = StorageWatch(broker.info, lambda reason: tell_root({"is": "refused", "reason": reason}),
                                    allow_eviction=allow_eviction)
        self.sampling, self.recorder, self.tell_root = Sampling(), Recorder(), tell_root
        self.sample_interval_s, self.host, self.root_pid = sample_interval_s, host_name(), os.getppid()
        self._kept_s = max(PROCESSES_S, 2 * sample_interval_s)
        self.children: dict[str, Any] = {}  # of the root: restarts, and the last death of each
        self.probe = Probe(self.root_pid, descendants)
        self.is_done = False
        self._said_ready = False
        self._round_s = self._sample_s = self._entry_s = self._unknown_s = 0.0

    def turn(self, patience_s: float) -> None:
        now_s = time.monotonic()
        wake_s = min(self._round_s, self._sample_s, self.bell.next_deadline_s())
        self.poller.wait(max(0.0, min(patience_s, wake_s - now_s)))
        now_s = time.monotonic()
        self.bell.tick(now_s)
        for event in self.bell.events():
            if isinstance(event, Pushed) and event.message.startswith(CONTROL):
                self._hand_on(event.message.removeprefix(CONTROL))
            elif isinstance(event, (Pushed, Connected)):
                self._ring(event.message if isinstance(event, Pushed) else b"", now_s)
        if now_s >= self._round_s:
            self._round_s = now_s + self.rounds.go()
            if self.rounds.has_contact:
                self.storage.look()
                self._tell_unknown_types(now_s)
        if now_s >= self._sample_s - TOGETHER_S:
            self._sample_s = now_s + self.sample_interval_s
            self._sample(now_s)
        if not self._said_ready:
            self._said_ready = True
            self.tell_root({"is": "ready"})

    def _tell_unknown_types(self, now_s: float) -> None:
        """Once a minute: tasks wait for a pool that nobody has started."""
        if not self.rounds.leads or now_s < self._unknown_s:
            return
        self._unknown_s = now_s + UNKNOWN_S
        try:
            if unknown := self.broker.unknown_types():
                errors.warning("tasks wait whose types no living pool knows", extra={"types": shown(unknown)})
        except BrokerError:
            errors.debug("nobody knows which types wait: Redis is away")

    def _ring(self, due_ms: bytes, now_s: float) -> None:
        """Go a round, by the moment that the bell named if it named one."""
        is_moment = due_ms.isdigit() and len(due_ms) <= MOMENT_DIGITS_MAX  # anybody may ring
        in_s = max(0.0, (int(due_ms) - self.bell.clock.now_ms()) / 1000) if is_moment else 0.0
        self.rounds.ring(in_s)
        self._round_s = min(self._round_s, now_s + in_s)

    def _sample(self, now_s: float) -> None:
        """Look at every process; publish that, if it is worth it, with an entry of their history when it is time."""
        samples = self.probe.sample(fully=self.sampling.is_awaited(now_s))
        self.recorder.add(samples)
        self._add_deaths(samples)
        if not self.sampling.is_due(samples, now_s):
            return
        entry = b""
        if now_s >= self._entry_s:
            self._entry_s, entry = now_s + ENTRY_S, self.recorder.take(self.bell.clock.now_ms())
        try:
            self.keeping.publish_processes(self.host, self.root_pid, samples, entry, self._kept_s)
        except BrokerError:
            errors.debug("the sample was not published: Redis is away")

    def learn(self, children: dict[str, Any]) -> None:
        """What the root tells of its children: {name: {"restarts", "last_death": {"cause", "at_s"} or None}}."""
        now_s = time.monotonic()
        for child in children.values():
            death = child["last_death"]
            if death is not None:
                child["last_death"] = {"cause": death["cause"], "at_ms": self.bell.clock.now_ms() - int(
                    (now_s - death["at_s"]) * 1000)}
        self.children = children

    def _add_deaths(self, samples: dict[int, dict[str, Any]]) -> None:
        for pid, name in names(samples).items():
            samples[pid].update(self.children.get(name, {}))

    def _hand_on(self, text: bytes) -> None:
        """What somebody asks of the root, which hears of Redis through us only."""
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
        self.bell.close()
        self.broker.close()
        return 0


def make_loop(name: str, bootstrap: Bootstrap, poller: EpollPoller,
              tell_root: Callable[[dict[str, Any]], None]) -> KeeperLoop:
    settings = bootstrap.settings
    assert settings.redis_url is not None
    broker = Broker(settings.redis_url, prefix=settings.queue_prefix, timeout_s=_CALL_S,
                    failed_ttl_s=settings.failed_ttl_s, idempotency_ttl_s=settings.idempotency_ttl_s)
    keeping = KeeperBroker(broker, settings.max_rescues)
    reports = Reports(keeping.supervisors)
    rounds = Rounds(composition.supervisor_name("keeper"), keeping, reports, Neighbours(reports), settings.lease_s)
    bell = SupervisorLink(settings.redis_url, broker.keys.keeper_bell, RedisClock(), poller)
    return KeeperLoop(rounds, broker, keeping, bell, poller, settings.sample_interval_s, tell_root,
                      allow_eviction=settings.allow_eviction)
