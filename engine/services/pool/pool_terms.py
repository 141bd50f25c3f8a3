"""What a pool and its host need of the settings, as plain numbers."""

import os
import secrets
from dataclasses import dataclass

from engine.config import Settings, sizes
from engine.core.pool import cpu_shares
from engine.core.pool.resizing import Scale
from engine.core.task.policy import RunPolicy
from engine.ports.host import HostSettings
from engine.services.bootstrap import Bootstrap
from engine.services.composition import engine_version, run_policy

ANY = Scale(1, 1024)


@dataclass(frozen=True, slots=True)
class PoolTerms:
    supervisor: str
    pool: str
    queues: tuple[str, ...]  # empty: all there are
    policy: RunPolicy  # for handlers and tasks that say nothing
    lease_s: float = 15.0
    fence_margin_s: float = 2.0  # runs are ended so long before the lease lapses
    fences: bool = True  # not on a Unix socket: no other host can reach that Redis
    outcomes_pending_max: int = 10_000
    claim_max: int = 256  # of one step
    settle_max: int = 256  # of one step
    settle_bytes_max: int = 4 << 20  # of one step, unless a single outcome is larger
    grace_s: float = 30.0  # for what runs, when the pool is told to drain
    report_s: float = 1.0
    version: str = ""
    scale: Scale = ANY
    scale_auto: bool = False
    needs_handlers: bool = False  # it starts nothing without them, unless the root says so
    enforcement: str = "sampling"  # what holds the limits of runs, for people


def pool_terms(settings: Settings, pool: str, supervisor: str, enforcement: str) -> PoolTerms:
    """The terms of one pool. `enforcement` says what holds the limits of its runs."""
    queues = settings.pools[pool].queues
    assert settings.redis_url is not None, "the root has put the embedded Redis's address in"
    return PoolTerms(
        supervisor=supervisor, pool=pool, queues=() if "*" in queues else tuple(queues), policy=run_policy(settings),
        lease_s=settings.lease_s, fence_margin_s=min(2.0, settings.lease_s / 5),
        fences=not settings.redis_url.startswith("unix:"), outcomes_pending_max=settings.outcomes_pending_max,
        grace_s=settings.shutdown_grace_s, version=engine_version(),
        needs_handlers=not settings.allow_missing_handlers, scale=sizes.scale(settings, pool),
        scale_auto=sizes.is_auto(settings, pool), enforcement=enforcement)


def host_settings(bootstrap: Bootstrap, pool: str, supervisor: str, cores: int) -> HostSettings:
    """What the fork server and the workers of one pool need. `cores` is how many of them the pool may use."""
    settings = bootstrap.settings
    slots = sizes.workers(settings, pool)
    assert settings.redis_url is not None
    # A handler's own Client() submits to the engine that runs it.
    environment = {"GANGER_REDIS_URL": settings.redis_url, "GANGER_QUEUE_PREFIX": settings.queue_prefix}
    return HostSettings(
        supervisor=supervisor, pool=pool, modules=tuple(settings.handlers), main=bootstrap.main,
        functions=bootstrap.functions, environment=environment, sys_path=tuple(bootstrap.sys_path),
        starting=sizes.starting(settings, pool),
        others=tuple(sizes.starting(settings, other) for other in settings.pools if other != pool),
        threads=max(1, cores // slots), shares=_shares(cores, slots) if sizes.holds_cores(settings, pool) else (),
        payload_bytes_max=settings.payload_bytes_max,
        result_bytes_max=settings.result_bytes_max,
        log_bytes_max=settings.log_bytes_max, growth_bytes_max=settings.worker_growth_max,
        task_timeout=settings.task_timeout, dump_s=settings.stack_wait_s,
        stop_s=settings.worker_stop_s)


def _shares(cores: int, slots: int) -> tuple[tuple[int, ...], ...]:
    """Of the cores that we may use. Where a quota allows fewer than there are, some by chance: other containers see the
    same ones."""
    allowed = sorted(os.sched_getaffinity(0))
    start = secrets.randbelow(len(allowed)) if cores < len(allowed) else 0
    return cpu_shares.deal([*allowed[start:], *allowed[:start]][:cores], slots)
