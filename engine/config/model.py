"""The settings: their names, units, defaults and bounds. Every number has both bounds.

A field's description, unit and limits are written once, here: the error messages, `config/ganger.toml` and the
documentation are made from them. This file does not know where a value came from.
"""

import re
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, field_validator, model_validator
from pydantic_core import PydanticCustomError

from engine.config import urls
from engine.config.fields import (
    DAY_S,
    MIB,
    STRICT,
    WORKERS_MAX,
    Count,
    Module,
    Number,
    Size,
    cores,
    disagreement,
    quarter_of_memory,
    setting,
)
from engine.config.pools import PoolSettings
from engine.core.task.names import is_queue_name
from engine.core.task.options import MEMORY_BYTES_MAX, MEMORY_BYTES_MIN, NICE_MAX

_PREFIX = re.compile(r"[A-Za-z0-9._:-]{1,64}")


class Settings(BaseModel):
    """All settings of an engine, frozen. `model_dump_json()` carries them to child processes."""

    model_config = STRICT

    redis_url: str | None = setting(
        None, "Redis to use: redis://, rediss:// (TLS) or unix://, with user and password; or "
        "redis+sentinel://HOST:PORT,HOST:PORT/NAME or redis+cluster://HOST:PORT,HOST:PORT. "
        "Without it the embedded Redis of data_dir is used.",
        limit=urls.LIMIT, shown='"redis://user:password@localhost:6379/0"')
    data_dir: Path = setting(
        Path(".ganger"), "Folder of the embedded Redis. Commands that name the same folder share one instance.",
        limit="the path of a folder")
    redis_binary: str | None = setting(
        None, "Server program that the embedded Redis runs: a redis-server of 6.2 or later, or a valkey-server. "
        "Without it, the Valkey that is installed with Ganger; where that is missing, one on PATH.",
        limit="the path of a program, or its name on PATH", shown='"redis-server"')
    allow_eviction: bool = setting(
        False, "Start even where Redis deletes tasks when its memory is full (a maxmemory-policy of allkeys-lru, "
        "allkeys-lfu or allkeys-random).", limit="true or false")
    queue_prefix: str = setting(
        "ganger", "Prefix of every key in Redis; engines with different prefixes do not see each other.",
        limit="1 to 64 of the characters A-Z a-z 0-9 . _ : -")
    handlers: tuple[Module, ...] = setting(
        (), "Modules to import. The engine can run the handlers that they register.",
        limit="a list of module names", shown='["my_app.tasks"]')
    allow_missing_handlers: bool = setting(
        False, "Start even where a handler module cannot be imported, or where there is no handler at all. Tasks of "
        "types that no pool knows wait in any case.", limit="true or false")
    unknown_types: Literal["refuse", "accept"] = setting(
        "refuse", "What a submit does with a type that no pool has announced. refuse = it is an error, once any pool "
        "has announced anything; accept = the task waits for a pool that knows it.", limit="refuse or accept")
    max_workers: Count = setting(
        None, "Worker processes of a pool. Default: one for each core.", factory=cores, low=1, high=WORKERS_MAX,
        unit="processes")
    scale: Literal["fixed", "auto"] = setting(
        "fixed", "auto = a pool adds workers while tasks wait and the processors have time to spare, and removes a "
        "worker that has been idle for long; fixed = the number does not change by itself. `ganger scale` changes it "
        "while the pool runs.",
        limit="fixed or auto")
    scale_min: Count = setting(
        1, "The lowest number of workers of a pool, in both modes of scale.", low=1, high=WORKERS_MAX,
        unit="processes")
    scale_max: Count = setting(
        0, "The highest number of workers of a pool. 0 = eight for each core, or max_workers if that is more.", low=0,
        high=WORKERS_MAX, unit="processes")

    start_method: Literal["fork", "spawn"] = setting(
        "fork", "fork = workers are forked, in milliseconds; spawn = each is a fresh interpreter that imports the "
        "handlers itself, for libraries that do not survive a fork (docs/libraries.md).", limit="fork or spawn")
    preload: bool = setting(
        True, "true = the handlers are imported once, and workers fork with them; false = each worker imports them "
        "itself. spawn implies false.", limit="true or false")
    cpu_affinity: bool = setting(
        False, "true = each worker is held to its share of the cores. Libraries that ask the system for the number of "
        "cores then start no more threads than that.", limit="true or false")
    task_timeout: Number = setting(
        600.0, "A run is killed after this long, unless its task or handler says otherwise. 0 = never.",
        low=0, high=30 * DAY_S, unit="seconds")
    soft_timeout: Number = setting(
        0.0, "SoftTimeout is raised inside a run after this long. 0 = never.", low=0, high=30 * DAY_S, unit="seconds")
    max_retries: Count = setting(3, "Further runs after a task's first one failed.", low=0, high=1000, unit="runs")
    max_crashes: Count = setting(
        3, "Workers that may die in the runs of one task before it is quarantined.", low=0, high=100, unit="runs")
    max_rescues: Count = setting(
        20, "How often a task runs again after the loss of its supervisor or host before it is quarantined.",
        low=0, high=1000, unit="runs")
    retry_backoff_s: Number = setting(1.0, "Pause before the first retry.", low=0, high=DAY_S, unit="seconds")
    retry_factor: Number = setting(
        2.0, "Each further pause is this many times the one before.", low=1, high=100, unit="times")
    retry_backoff_s_max: Number = setting(
        600.0, "The longest pause before a retry.", low=0, high=30 * DAY_S, unit="seconds")
    retry_jitter: Number = setting(
        0.1, "Random share of each pause, so that tasks that failed together are not retried together.",
        low=0, high=1, unit="share of the pause")

    max_memory: Size = setting(
        0, 'Memory that a run may use with all that it starts, such as "512M". 0 = no limit.', low=0,
        high=MEMORY_BYTES_MAX, unit="bytes")
    max_cpu_seconds: Number = setting(
        0.0, "CPU time that a run may use with all that it starts. 0 = no limit.", low=0, high=30 * DAY_S,
        unit="seconds")
    max_processes: Count = setting(
        0, "Processes that a run may have, its worker included. 0 = no limit.", low=0, high=1_000_000,
        unit="processes")
    nice: Count = setting(
        0, "Nice value of runs: 19 leaves the processor to all other programs of this host.", low=0, high=NICE_MAX,
        unit="as of the command nice")

    payload_bytes_max: Count = setting(
        MIB, "The largest payload. A larger one is refused at submit.", low=1024, high=16 * MIB, unit="bytes")
    result_bytes_max: Count = setting(
        MIB, "The largest result. A larger one fails its run.", low=1024, high=64 * MIB, unit="bytes")
    log_bytes_max: Count = setting(
        MIB // 4, "How much output and log of one run is kept. The rest is counted and dropped.", low=0, high=64 * MIB,
        unit="bytes")
    submit_timeout_s: Number = setting(
        2.0, "A submit raises BrokerUnavailable when Redis has not answered within this time.", low=0.05, high=60,
        unit="seconds")
    result_ttl_s: Number = setting(
        DAY_S, "How long a completed task is kept.", low=1, high=365 * DAY_S, unit="seconds")
    failed_ttl_s: Number = setting(
        7 * DAY_S, "How long a task that ended in another way is kept.", low=1, high=365 * DAY_S, unit="seconds")
    idempotency_ttl_s: Number = setting(
        DAY_S, "Within this time, a second submit to a queue with the same idempotency key returns the first task.",
        low=1, high=365 * DAY_S, unit="seconds")

    lease_s: Number = setting(
        15.0, "A supervisor that has not renewed its lease for this long loses its runs to other supervisors.",
        low=1, high=3600, unit="seconds")
    ageing_s: Number = setting(
        30.0, "A lane (a queue at one priority) that was not served for this long is served once before higher "
        "priorities. 0 = never.",
        low=0, high=DAY_S, unit="seconds")
    shutdown_grace_s: Number = setting(
        30.0, "At shutdown, running tasks have this long to finish. Then they are killed and queued again.",
        low=0, high=DAY_S, unit="seconds")
    cancel_grace_s: Number = setting(
        2.0, "A cancelled run is interrupted, and killed if it has not ended after this long. 0 = at once.",
        low=0, high=DAY_S, unit="seconds")
    stack_wait_s: Number = setting(
        0.3, "How long the supervisor waits for the stacks of a run before it kills it. Most need a millisecond.",
        low=0.001, high=10, unit="seconds")
    worker_stop_s: Number = setting(
        5.0, "A worker that ends in good order has this long for @on_worker_stop, its threads, atexit and open files.",
        low=0.1, high=3600, unit="seconds")
    boot_timeout_s: Number = setting(
        30.0, "Importing the handlers, or @on_worker_start, may take this long before it counts as hung.",
        low=1, high=600, unit="seconds")
    restart_intensity: Count = setting(
        5, "A process of the tree may be restarted this often within restart_period_s before its parent gives up.",
        low=0, high=1000, unit="restarts")
    restart_period_s: Number = setting(30.0, "The period of restart_intensity.", low=0.1, high=3600, unit="seconds")
    handler_intensity: Count = setting(
        20, "A handler is stopped for a while when more workers than this die in its runs within handler_period_s. "
        "0 = never.",
        low=0, high=100_000, unit="workers")
    handler_period_s: Number = setting(10.0, "The period of handler_intensity.", low=0.1, high=3600, unit="seconds")
    handler_pause_s: Number = setting(
        10.0, "How long such a handler is stopped. Twice as long each time that it is stopped again soon, up to 300 s.",
        low=0.1, high=300, unit="seconds")
    worker_tasks_max: Count = setting(
        0, "A worker is replaced by a fresh one after this many tasks. 0 = never.", low=0, high=1_000_000_000,
        unit="tasks")
    worker_growth_max: Size = setting(
        0, 'A worker is replaced when its memory has grown by this much since its start, such as "200M". 0 = never.',
        low=0, high=MEMORY_BYTES_MAX, unit="bytes")
    frozen_max: Count = setting(
        2, "Runs of a pool that may be suspended at a time so that URGENT tasks start at once. 0 = none.",
        low=0, high=64, unit="runs")
    frozen_memory_max: Size = setting(
        None, 'Memory that suspended runs may hold together, such as "4G". 0 = no limit. Default: a quarter of the '
        "machine's.", factory=quarter_of_memory, low=0, high=MEMORY_BYTES_MAX, unit="bytes", shown='"4G"')
    frozen_s_max: Number = setting(
        60.0, "A run that has been suspended for this long is resumed first, and never suspended again. 0 = no limit.",
        low=0, high=DAY_S, unit="seconds")
    window_max: Count = setting(
        128, "Short tasks that are sent ahead to one worker. 1 = one at a time.", low=1, high=1024, unit="tasks")
    outcomes_pending_max: Count = setting(
        10_000, "Outcomes that a pool keeps in memory while Redis is away. At this number it claims no more tasks.",
        low=1, high=1_000_000, unit="outcomes")
    sample_interval_s: Number = setting(
        1.0, "How often CPU, memory and I/O of each process are measured. An idle engine publishes them every 5 s.",
        low=0.1, high=60, unit="seconds")

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = setting(
        "INFO", "The least severe line that is logged.", limit="DEBUG, INFO, WARNING, ERROR or CRITICAL")
    log_format: Literal["auto", "text", "json"] = setting(
        "auto", "Form of the log: text for people, json for machines, auto = text on a terminal, else json.",
        limit="auto, text or json")

    api: bool = setting(
        False, "Run the REST API as a child of `ganger run`.", limit="true or false")
    api_host: str = setting(
        "127.0.0.1", "Address that the API listens on. On any address but loopback it needs a key, or api_open.",
        limit="an address of this host")
    api_port: Count = setting(8000, "Port of the API. 0 = any that is free.", low=0, high=65_535, unit="port")
    api_open: bool = setting(
        False, "Serve every caller without a key, from any address.", limit="true or false")
    api_cors_origins: str = setting(
        "", "Web pages of these origins may use the API from a browser; several with commas between them.",
        limit="origins such as https://tasks.example.org, or * for any")
    api_body_bytes_max: Count = setting(
        8 * MIB, "The largest body of a request. A larger one is refused.", low=1024, high=256 * MIB, unit="bytes")
    api_timeout_s: Number = setting(
        10.0, "A request that takes longer is answered with 503.", low=0.1, high=600, unit="seconds")
    api_rate_per_s: Number = setting(
        0.0, "Requests a second of one key, or of one address where there are no keys. 0 = no limit.",
        low=0, high=1_000_000, unit="requests a second")
    api_queue_tasks_max: Count = setting(
        1_000_000, "The API refuses a submit with 429 when this many tasks wait in its queue. 0 = no limit.",
        low=0, high=1_000_000_000, unit="tasks")
    webhooks_private: bool = setting(
        False, "Webhooks may be sent to loopback and private addresses.", limit="true or false")
    webhooks_retry_s: Number = setting(
        5.0, "Pause before the second try of a webhook; each further one is three times as long, up to six hours.",
        low=0.01, high=3600, unit="seconds")

    pools: dict[str, PoolSettings] = setting(
        None, "Pools of workers. Each is a supervisor with its own slots and queues.",
        factory=lambda: {"default": PoolSettings()}, limit="one table [pools.NAME] for each pool")

    @field_validator("redis_url")
    @classmethod
    def _redis_url(cls, url: str | None) -> str | None:
        if not url:
            return None
        urls.check(url)
        return url

    @field_validator("queue_prefix")
    @classmethod
    def _queue_prefix(cls, prefix: str) -> str:
        if not _PREFIX.fullmatch(prefix):
            raise PydanticCustomError("queue_prefix", "not a prefix")
        return prefix

    @field_validator("log_level", mode="before")
    @classmethod
    def _log_level(cls, level: Any) -> Any:
        return level.upper() if isinstance(level, str) else level

    @field_validator("pools")
    @classmethod
    def _pools(cls, pools: dict[str, PoolSettings]) -> dict[str, PoolSettings]:
        if not pools or not all(is_queue_name(name) for name in pools):
            raise PydanticCustomError("pools", "at least one pool, each with a name like a queue's")
        return pools

    @model_validator(mode="after")
    def _agree(self) -> "Settings":
        """Settings that are each fine but make no sense together."""
        if self.task_timeout and self.soft_timeout >= self.task_timeout:
            raise disagreement("soft_timeout", self.soft_timeout, f"less than task_timeout ({self.task_timeout:g})")
        if 0 < self.scale_max < self.scale_min:
            raise disagreement("scale_max", self.scale_max, f"0 or at least scale_min ({self.scale_min})")
        if 0 < self.max_memory < MEMORY_BYTES_MIN:
            raise disagreement("max_memory", self.max_memory, f"0 or at least {MEMORY_BYTES_MIN}")
        if self.retry_backoff_s > self.retry_backoff_s_max:
            raise disagreement("retry_backoff_s", self.retry_backoff_s,
                               f"at most retry_backoff_s_max ({self.retry_backoff_s_max:g})")
        return self
