"""Turns settings into what the services need. The one place, with the `process` modules, where adapters are made."""

import os
import secrets
import socket
from importlib.metadata import PackageNotFoundError, version

from engine.adapters.process.kernel import ulimits
from engine.adapters.process.resources import cgroup
from engine.config import Settings, sizes
from engine.core.pool import cpu_shares
from engine.core.task.options import OPTIONS
from engine.core.task.policy import RunPolicy
from engine.ports.host import HostSettings
from engine.services.pool.pool_terms import PoolTerms
from engine.services.tree.bootstrap import Bootstrap


def engine_version() -> str:
    try:
        return version("ganger")
    except PackageNotFoundError:  # run from a checkout that was not installed
        return "0"


def supervisor_name(kind: str) -> str:
    """Unique for each process that leads: host, kind, and some chance, in the alphabet of a Redis key."""
    host = "".join(letter if letter.isalnum() or letter == "-" else "-" for letter in socket.gethostname())
    return f"{host[:40]}.{kind}.{secrets.token_hex(3)}"


def run_policy(settings: Settings) -> RunPolicy:
    """What holds for a handler and a task that give no options."""
    values = {name: getattr(settings, option.setting) for name, option in OPTIONS.items() if option.setting}
    return RunPolicy(failed_ttl_s=settings.failed_ttl_s).with_handler(values)


def pool_terms(settings: Settings, pool: str, supervisor: str) -> PoolTerms:
    queues = settings.pools[pool].queues
    assert settings.redis_url is not None, "the root has put the embedded Redis's address in"
    return PoolTerms(
        supervisor=supervisor, pool=pool, queues=() if "*" in queues else tuple(queues), policy=run_policy(settings),
        lease_s=settings.lease_s, fence_margin_s=min(2.0, settings.lease_s / 5),
        fences=not settings.redis_url.startswith("unix:"), outcomes_pending_max=settings.outcomes_pending_max,
        grace_s=settings.shutdown_grace_s, version=engine_version(),
        needs_handlers=not settings.allow_missing_handlers, scale=sizes.scale(settings, pool),
        scale_auto=sizes.is_auto(settings, pool), enforcement=cgroup.enforcement())


def host_settings(bootstrap: Bootstrap, pool: str, supervisor: str, cores: int) -> HostSettings:
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


def ulimits_needed(settings: Settings) -> list[ulimits.Need]:
    """What the tree needs of the limits of its user: descriptors in each pool, processes and threads in all."""
    pools = [(sizes.workers(settings, name), sizes.scale(settings, name).most + settings.frozen_max)
             for name in settings.pools]
    return [ulimits.files(max(few for few, _ in pools), max(many for _, many in pools)),
            ulimits.processes(sum(few for few, _ in pools), sum(many for _, many in pools), len(pools))]
