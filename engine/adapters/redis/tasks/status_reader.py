"""What can be known of queues, supervisors, processes and Redis itself. Changes nothing."""

from collections.abc import Iterable
from typing import Any

from engine.adapters.redis.tasks.lanes import TYPES_MAX, told_all, waiting_keys, waiting_lanes
from engine.adapters.redis.tasks.task_actions import ENDS
from engine.adapters.redis.tasks.task_reader import look, moment, sorted_out, supervisor_names
from engine.adapters.redis.wire.connection import Connections
from engine.adapters.redis.wire.keys import Keys
from engine.core.task import stored_json
from engine.core.task.lifecycle import TaskStatus
from engine.core.task.names import is_queue_name
from engine.core.task.priority import DESCENDING
from engine.core.task.task_id import created_ms
from engine.errors import BrokerError

SAMPLE_TASKS = 5_000  # of the delayed and retrying ones; beyond that their shares are estimated
LOG_ROWS_MAX = 10_000  # read at once
OUTCOMES_MAX = 10_000  # the latest, of one task


class StatusReader:
    def __init__(self, redis: Connections, keys: Keys) -> None:
        self._redis, self._keys = redis, keys

    def outcomes(self, task_id: str) -> list[dict[str, Any]]:
        """How each run of a task ended, the first first."""
        stored = look(self._redis, self._keys, [task_id])[0]
        if stored is None:
            return []
        runs = range(max(0, stored.state.run - OUTCOMES_MAX), stored.state.run + 1)
        found = self._redis.call("HMGET", self._keys.outcomes, *(f"{task_id}:{run}" for run in runs))
        return [stored_json.outcome(told, run) for run, told in zip(runs, found, strict=True) if told]

    def log(self, task_id: str, start: int) -> list[dict[str, Any]]:
        """What the runs of a task printed and logged, from row `start`."""
        rows = self._redis.call("LRANGE", self._keys.log(task_id), start, start + LOG_ROWS_MAX - 1)
        return [stored_json.log_row(row) for row in rows]

    def queue_stats(self) -> list[dict[str, Any]]:
        """For each queue: `queue`, `paused`, `queued` by priority, `oldest_s` since the first of its lines was made.

        `aside`: how many of them wait for a pool that knows their type, by type, of up to a thousand types.
        """
        states, lines, now_ms = self._queues(), waiting_lanes(self._redis, self._keys), self._redis.now_ms()
        stats = {queue: self._empty(queue, states.get(queue, b"open"))
                 for queue in sorted({*states, *(line.queue for line in lines)})}
        replies = told_all(self._redis, [command for line in lines for command in (
            ("ZCARD", line.key), ("ZRANGE", line.key, 0, 0))])
        for line, count, first in zip(lines, replies[::2], replies[1::2], strict=True):
            told, name = stats[line.queue], line.priority.name
            told["queued"][name] += count
            aside, kind = told["aside"], line.task_type
            if kind is not None and count and (kind in aside or len(aside) < TYPES_MAX):
                aside[kind] = aside.get(kind, 0) + count
            if ids := sorted_out(first)[0]:
                ages = told["oldest_s_by_priority"]
                ages[name] = max(ages.get(name, 0.0), (now_ms - created_ms(ids[0])) / 1000)
                told["oldest_s"] = max(ages.values())
        return list(stats.values())

    def _empty(self, queue: str, state: bytes) -> dict[str, Any]:
        return {"queue": queue, "paused": state == b"paused",
                "queued": {priority.name: 0 for priority in DESCENDING}, "oldest_s": None, "oldest_s_by_priority": {},
                "aside": {}}

    def status_counts(self) -> dict[str, int]:
        """How many tasks are in each status now; beyond 5,000 due later, PENDING and RETRYING are estimates."""
        keys = self._keys
        lines = waiting_keys(self._redis, keys)
        held = [keys.running(name) for name in supervisor_names(self._redis, keys)]
        replies = told_all(self._redis, [("ZCARD", keys.due), *(("ZCARD", keys.ended(status)) for status in ENDS),
                                 *(("ZCARD", line) for line in lines), *(("SCARD", key) for key in held)])
        due, ended, rest = replies[0], replies[1:5], replies[5:]
        retrying = self._retrying(due)
        return {TaskStatus.PENDING: due - retrying, TaskStatus.QUEUED: sum(rest[: len(lines)]),
                TaskStatus.RUNNING: sum(rest[len(lines) :]), TaskStatus.RETRYING: retrying,
                **dict(zip(ENDS, ended, strict=True))}

    def counters(self) -> dict[str, int]:
        """What has happened since the beginning: "submitted", "runs", each final status …"""
        return {name: int(count) for name, count in self._hash(self._keys.counters).items() if count.isdigit()}

    def handlers(self) -> dict[str, dict[str, Any]]:
        """What pools have announced that they can run, by name."""
        return {name: stored_json.announcement(told) for name, told in self._hash(self._keys.handlers).items()}

    def supervisors(self) -> list[dict[str, Any]]:
        """The reports of all supervisors, with `supervisor`, `lease_end_ms` and `alive`."""
        names = self._redis.call("ZRANGE", self._keys.supervisors, 0, -1, "WITHSCORES")
        reports, now_ms = self._hash(self._keys.reports), self._redis.now_ms()
        found = []
        for name, lease_end in zip(names[::2], names[1::2], strict=True):
            lease_end_ms, supervisor = moment(lease_end), name.decode(errors="replace")
            found.append({**stored_json.report(reports.get(supervisor, b"")), "supervisor": supervisor,
                          "lease_end_ms": lease_end_ms, "alive": lease_end_ms >= now_ms})
        return found

    def processes(self) -> list[dict[str, Any]]:
        """The latest sample of every process of every engine, with `host`, `root_pid` and `pid`."""
        engines = sorted({(str(report["host"]), report["root_pid"]) for report in self.supervisors()
                          if report.get("host") and type(report.get("root_pid")) is int})
        replies = self._redis.call_all([("HGETALL", self._keys.processes(*engine)) for engine in engines]) \
            if engines else []
        return [{**stored_json.sample(sample), "host": host, "root_pid": root_pid, "pid": int(pid)}
                for (host, root_pid), told in zip(engines, replies, strict=True)
                for pid, sample in _pairs(told) if pid.isdigit()]

    def history(self, host: str, root_pid: int, limit: int) -> list[dict[str, Any]]:
        """The last `limit` entries of what the processes of an engine used, the newest first."""
        told = self._redis.call("LRANGE", self._keys.history(host, root_pid), 0, limit - 1)
        return [entry for text in told if (entry := stored_json.history_entry(text)) is not None]

    def info(self) -> dict[str, Any]:
        """What Redis says of itself, as far as this user may ask, and `skew_ms`, this host's clock against its."""
        self._redis.calibrate()
        text = self._redis.call("INFO").decode()
        told = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
        return {
            "version": told.get("valkey_version") or told.get("redis_version"),
            "server": "valkey" if "valkey_version" in told else "redis", "role": told.get("role"),
            "policy": told.get("maxmemory_policy"), "maxmemory_bytes": int(told.get("maxmemory", 0)),
            "used_memory_bytes": int(told.get("used_memory", 0)), "aof_enabled": told.get("aof_enabled") == "1",
            "aof_ok": told.get("aof_last_write_status", "ok") == "ok", "rdb_ok": told.get(
                "rdb_last_bgsave_status", "ok") == "ok", "uptime_s": int(told.get("uptime_in_seconds", 0)),
            "clients": int(told.get("connected_clients", 0)), "save": self._setting("save"),
            "skew_ms": self._redis.clock.skew_ms}

    def _setting(self, name: str) -> str | None:
        try:
            found = self._redis.call("CONFIG", "GET", name)
        except BrokerError:  # hosted Redis has no CONFIG
            return None
        return found[1].decode() if found else None

    def _retrying(self, due: int) -> int:
        ids: list[bytes] = self._redis.call("ZRANGE", self._keys.due, 0, SAMPLE_TASKS - 1)
        lines: list[bytes | None] = self._redis.call("HMGET", self._keys.states, *ids) if ids else []
        retrying = sum(line is not None and line.startswith(b"RETRYING ") for line in lines)
        return retrying if due <= len(ids) else round(retrying * due / len(ids))

    def _queues(self) -> dict[str, bytes]:
        return {queue: state for queue, state in self._hash(self._keys.queues).items() if is_queue_name(queue)}

    def _hash(self, key: str) -> dict[str, bytes]:
        return {field.decode(errors="replace"): value for field, value in _pairs(self._redis.call("HGETALL", key))}


def _pairs(flat: list[bytes]) -> Iterable[tuple[bytes, bytes]]:
    return zip(flat[::2], flat[1::2], strict=True)
