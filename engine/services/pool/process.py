"""Puts a pool together from the real parts, for its process."""

import random
import time
from collections.abc import Callable
from typing import Any

from engine.adapters.clock import RedisClock
from engine.adapters.kernel import probe
from engine.adapters.kernel.prctl import adopt_orphans
from engine.adapters.poller import EpollPoller
from engine.adapters.process.pool.host import ProcessHost
from engine.adapters.process.resources import cgroup
from engine.adapters.redis.pool.supervisor_broker import RedisSupervisorBroker, Terms
from engine.adapters.redis.wire.keys import Keys
from engine.config import Settings, cores, sizes
from engine.core.pool.breaker import Breaker, BreakerTerms
from engine.core.pool.deadlines import Timing
from engine.core.pool.dispatch import Dispatch
from engine.core.pool.preemption import PreemptionLimits
from engine.core.pool.window import Windows
from engine.core.tree.restart import RestartBudget
from engine.services import composition
from engine.services.bootstrap import Bootstrap
from engine.services.pool.pool_terms import host_settings, pool_terms
from engine.services.pool.supervisor import Pool, Surroundings

_FAREWELL_S = 1.0
_QUIT_MARGIN_S = 1.0  # a worker that is told to go ends itself in time; one that cannot is killed
_SLICE_BYTES = 16 << 20  # what Redis may read of payloads before it looks how much it has


class PoolLoop:
    """Runs a pool until it is drained, unregisters its supervisor, and ends all processes below it."""

    def __init__(self, pool: Pool, broker: RedisSupervisorBroker, host: ProcessHost) -> None:
        self.pool, self.broker, self.host = pool, broker, host
        pool.start()

    def turn(self, patience_s: float) -> None:
        self.pool.turn(patience_s)

    def drain(self) -> None:
        self.pool.drain()

    def stop(self) -> None:
        self.pool.stop()

    def go_on(self) -> None:
        self.pool.go_on()

    def scale(self, workers: Any) -> None:
        self.pool.scale(workers)

    @property
    def is_done(self) -> bool:
        return self.pool.is_done

    def close(self) -> int:
        self.host.stop()
        if self.broker.up:
            self.broker.unregister()
            end_s = time.monotonic() + _FAREWELL_S
            while not self.broker.is_unregistered and (left_s := end_s - time.monotonic()) > 0:
                self.pool.poller.wait(left_s)
                self.broker.events()
        self.broker.close()
        return 0 if self.pool.halted is None else 1


def _window(settings: Settings) -> int:
    """No more is sent ahead than a worker may run."""
    return min(settings.window_max, settings.worker_tasks_max or settings.window_max)


def make_loop(name: str, bootstrap: Bootstrap, poller: EpollPoller,
              tell_root: Callable[[dict[str, Any]], None], make_host: type[ProcessHost] = ProcessHost) -> PoolLoop:
    """`name` is the pool's, with the number of its generation behind a space after a reload."""
    settings, pool_name = bootstrap.settings, name.partition(" ")[0]
    adopt_orphans()
    clock = RedisClock()
    supervisor = composition.supervisor_name(pool_name)
    terms = pool_terms(settings, pool_name, supervisor, cgroup.enforcement())
    assert settings.redis_url is not None
    broker = RedisSupervisorBroker(settings.redis_url, Keys(settings.queue_prefix), Terms(
        supervisor, terms.queues, settings.lease_s, settings.ageing_s, settings.failed_ttl_s,
        max(settings.result_ttl_s, settings.failed_ttl_s), max(1, _SLICE_BYTES // settings.payload_bytes_max)), clock,
        poller)
    host = make_host(host_settings(bootstrap, pool_name, supervisor, cores()), poller)
    core = Dispatch(
        sizes.workers(settings, pool_name),
        RestartBudget(settings.restart_intensity, settings.restart_period_s), Windows(_window(settings)),
        Timing(settings.boot_timeout_s, settings.cancel_grace_s, settings.worker_stop_s + _QUIT_MARGIN_S),
        random.random, settings.worker_tasks_max,
        Breaker(BreakerTerms(settings.handler_intensity, settings.handler_period_s, settings.handler_pause_s)),
        PreemptionLimits(settings.frozen_max, settings.frozen_memory_max, settings.frozen_s_max), host.memory_bytes)
    outside = Surroundings(host, broker, poller, clock, tell_root, cpu_share=probe.CpuShare())
    return PoolLoop(Pool(terms, core, outside), broker, host)
