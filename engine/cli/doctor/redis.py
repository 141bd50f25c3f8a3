"""The doctor's look at Redis: whether it will do, and whether it keeps what it is told."""

import math
from typing import TYPE_CHECKING, Any

from engine.cli.doctor.finding import Finding, State
from engine.cli.output import size
from engine.core.store.storage import DELETES_TASKS, writing_fault
from engine.core.task.names import types_in_words

if TYPE_CHECKING:
    from engine.config import Settings

_SKEW_MS_MAX = 1000.0
_FULL = 0.8  # of maxmemory
_MAINTAINED_SINCE = (7, 2)


def examine(settings: "Settings", *, embedded: bool) -> list[Finding]:
    """What there is to say of the Redis at the settings' URL. Raises `GangerError` if it cannot be reached."""
    from engine.client.provider import connected
    from engine.config.limits import without_password

    broker = connected(settings)
    try:
        info = {**broker.info(), "appendfsync": broker.appendfsync()}
        supervisors = broker.supervisors()
        unknown = broker.unknown_types()
    finally:
        broker.close()
    kind = "embedded, in " + str(settings.data_dir) if embedded else without_password(settings.redis_url or "")
    return [Finding("redis", State.OK, f"reachable: {kind}"), version(info), role(info), eviction(info),
            persistence(info), memory(info), skew(info), pools(supervisors),
            *types(unknown)]


def version(info: dict[str, Any]) -> Finding:
    """One older than 6.2 would not have let us in."""
    if info["server"] == "redis" and _number(info["version"]) < _MAINTAINED_SINCE:
        return Finding("version", State.WARN, f"redis {info['version']}: its makers no longer mend this line, and "
                       'durability="fsync" wants appendfsync always there', "Redis 7.2 or Valkey, unless your "
                       "distribution mends it")
    return Finding("version", State.OK, f"{info['server']} {info['version'] or 'unknown'}")


def _number(version: str | None) -> tuple[int, ...]:
    """A user who may not ask is believed to have a new one."""
    parts = (version or "").split(".")[:2]
    return tuple(map(int, parts)) if all(part.isdigit() for part in parts) else _MAINTAINED_SINCE


def role(info: dict[str, Any]) -> Finding:
    if info["role"] not in (None, "master"):
        return Finding("role", State.FAIL, f"it is a {info['role']}, and refuses writes", "name its master's URL")
    return Finding("role", State.OK, info["role"] or "unknown to this user")


def eviction(info: dict[str, Any]) -> Finding:
    policy = info["policy"]
    if policy is None:
        return Finding("eviction", State.WARN, "this user may not ask for it", "make sure that it is noeviction")
    if policy != "noeviction":
        lost = "tasks" if policy.startswith(DELETES_TASKS) else "idempotency keys and logs"
        return Finding("eviction", State.FAIL, f"{policy}: {lost} may vanish when memory is short",
                       "redis-cli CONFIG SET maxmemory-policy noeviction")
    return Finding("eviction", State.OK, policy)


def persistence(info: dict[str, Any]) -> Finding:
    """A submit that returned is in Redis; how long it is there if the machine stops is up to this."""
    if info["aof_enabled"]:
        if (fault := writing_fault(info)) is not None:
            return Finding("persistence", State.FAIL, fault, "make room on the disk of Redis; it goes on by itself")
        fsync = info["appendfsync"]
        if fsync == "no":
            return Finding("persistence", State.WARN, "append-only file, fsync left to the kernel",
                           "redis-cli CONFIG SET appendfsync everysec")
        return Finding("persistence", State.OK, f"append-only file, appendfsync {fsync or 'unknown to this user'}")
    remedy = "redis-cli CONFIG SET appendonly yes, and the same in redis.conf"
    if not info["rdb_ok"]:
        return Finding("persistence", State.FAIL, "the last snapshot failed", "see Redis's log; " + remedy)
    if info["save"]:
        return Finding("persistence", State.WARN,
                       f"snapshots only ({info['save']}): a crash loses what came after the last", remedy)
    return Finding("persistence", State.WARN, "none: a restart of Redis loses every task", remedy)


def memory(info: dict[str, Any]) -> Finding:
    used, most = info["used_memory_bytes"], info["maxmemory_bytes"]
    if not most:
        return Finding("maxmemory", State.OK, f"no limit, {size(used)} used")
    if used > most * _FULL:
        return Finding("maxmemory", State.WARN,
                       f"{size(used)} of {size(most)} used; submits are refused when it is full",
                       "raise maxmemory, or lower result_ttl_s and failed_ttl_s")
    return Finding("maxmemory", State.OK, f"{size(used)} of {size(most)} used")


def skew(info: dict[str, Any]) -> Finding:
    """Harmless to the engine, which goes by Redis's clock alone; but logs of two hosts are read side by side."""
    skew_ms = info["skew_ms"]
    if abs(skew_ms) > _SKEW_MS_MAX:
        return Finding("clock", State.WARN, f"this host's clock is {skew_ms / 1000:+.1f} s from Redis's",
                       "set both by NTP; tasks are timed by Redis's clock in any case")
    return Finding("clock", State.OK, f"within {max(1, math.ceil(abs(skew_ms)))} ms of Redis's")


def types(unknown: dict[str, int]) -> list[Finding]:
    """Tasks that wait for a pool that knows their type, where none does."""
    if not unknown:
        return []
    waiting = types_in_words(unknown)
    return [Finding("types", State.WARN, f"no living pool knows the types of tasks that wait: {waiting}",
                    "start a pool that imports their handlers, or purge or cancel them")]


def pools(supervisors: list[dict[str, Any]]) -> Finding:
    alive = [report for report in supervisors if report["alive"]]
    if not alive:
        return Finding("pools", State.WARN, "none is running; tasks will wait", "ganger run --handlers MODULE")
    slots = sum(len(report.get("slots", [])) for report in alive)
    failures = {module for report in alive for module in report.get("import_failures") or {}}
    if failures:
        return Finding("pools", State.WARN, f"{len(alive)} running, but without {', '.join(sorted(failures))}",
                       "ganger workers shows why they cannot be imported")
    hooks = {hook: message for report in alive for hook, message in (report.get("hook_failures") or {}).items()}
    if hooks:
        told = "; ".join(f"{hook} raised {message}" for hook, message in sorted(hooks.items()))
        return Finding("pools", State.WARN, f"{len(alive)} running, but workers cannot start: {told}",
                       "mend what @on_worker_start needs; workers are tried again without end")
    return Finding("pools", State.OK, f"{len(alive)} running, with {slots} workers; limits held by "
                   + " and ".join(sorted({report.get("enforcement", "sampling") for report in alive})))
