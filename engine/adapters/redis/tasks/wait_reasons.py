"""Why a task that could run does not: its queue is paused, no living pool serves the queue or knows the type, or no
worker of such a pool can start.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from engine.adapters.redis.tasks.lanes import TYPES_MAX, told_all, types_aside, waiting_lanes
from engine.adapters.redis.tasks.task_reader import moment
from engine.adapters.redis.wire.connection import Connections
from engine.adapters.redis.wire.keys import Keys
from engine.core.task import stored_json
from engine.core.task.lifecycle import TaskStatus
from engine.core.task.stored_task import StoredTask


class WaitReasons:
    """Answers from what supervisors have said of themselves, as of one moment."""

    def __init__(self, redis: Connections, keys: Keys) -> None:
        self._redis, self._keys = redis, keys

    def reason(self, stored: StoredTask) -> str | None:
        """What a queued task waits for, in words; None where it only waits for its turn."""
        if stored.state.status is not TaskStatus.QUEUED:
            return None
        queue, task_type = stored.record.queue, stored.record.task_type
        alive = self._alive()
        state, *known = self._redis.call_all([
            ("HGET", self._keys.queues, queue),
            *(("SISMEMBER", self._keys.types(name), task_type) for name in alive)])
        if state == b"paused":
            return f"its queue {queue!r} is paused"
        if not alive:
            return "no pool is running"
        able = [name for name, knows in zip(alive, known, strict=True) if knows]
        if not able:
            return f"no living pool knows the type {task_type!r}"
        serving = [report for report in self._reports(able) if _serves(report.get("queues") or ["*"], queue)]
        if not serving:
            return f"no living pool that knows the type {task_type!r} serves the queue {queue!r}"
        failures = [failure for failure in map(_failed_start, serving) if failure]
        return f"no worker can start: {failures[0]}" if len(failures) == len(serving) else None

    def unknown_types(self) -> dict[str, int]:
        """How many tasks wait aside of each type that no living pool knows."""
        types = types_aside(self._redis, self._keys, TYPES_MAX)
        if not types:
            return {}
        told = self._redis.call_all([("SMISMEMBER", self._keys.types(name), *types) for name in self._alive()])
        unknown = {task_type for n, task_type in enumerate(types) if not any(known[n] for known in told)}
        lanes = [lane for lane in waiting_lanes(self._redis, self._keys) if lane.task_type in unknown]
        sizes = told_all(self._redis, [("ZCARD", lane.key) for lane in lanes])
        counts: dict[str, int] = {}
        for lane, size in zip(lanes, sizes, strict=True):
            if size and lane.task_type is not None:
                counts[lane.task_type] = counts.get(lane.task_type, 0) + size
        return counts

    def _alive(self) -> list[str]:
        names = self._redis.call("ZRANGE", self._keys.supervisors, 0, -1, "WITHSCORES")
        now_ms = self._redis.now_ms()
        return [name.decode(errors="replace") for name, end_ms in zip(names[::2], names[1::2], strict=True)
                if moment(end_ms) >= now_ms]

    def _reports(self, supervisors: Sequence[str]) -> list[dict[str, Any]]:
        return [stored_json.report(text or b"") for text in self._redis.call("HMGET", self._keys.reports, *supervisors)]


def _serves(queues: Sequence[Any], queue: str) -> bool:
    return queue in queues or "*" in queues


def _failed_start(report: Mapping[str, Any]) -> str | None:
    """The @on_worker_start that keeps all workers of a pool from starting, and what it raised."""
    failures = report.get("hook_failures")
    if not failures or any(slot.get("state") in ("idle", "busy") for slot in report.get("slots") or []):
        return None
    hook, message = next(iter(failures.items()))
    return f"{hook} raised {message}"
