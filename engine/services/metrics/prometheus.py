"""What Prometheus reads: counters and histograms of the past, gauges of the present.

Labels are bounded: the first 100 queues have labels of their own, and the rest is "other".
"""

from collections.abc import Iterable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from engine.core.measure.health import find_problems
from engine.core.measure.reports import with_measurements
from engine.core.task.event import Event
from engine.core.task.lifecycle import TaskStatus
from engine.errors import GangerError
from engine.ports.engine_broker import EngineBrokerProvider
from engine.services.metrics.window import End

QUEUES_MAX = 100
RESTARTING = frozenset({"timeout", "killed", "exited", "out_of_memory", "cancelled"})  # ends that take the worker along
WAITS_S = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 1800, 7200)
RUNS_S = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200)


class PrometheusMetrics:
    """Counters and histograms of this process, filled from the stream of events."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._changes = Counter("ganger_task_status_changes", "Tasks that came into a status.", ["status"],
                                registry=self.registry)
        self._ended = Counter("ganger_tasks_ended", "Tasks that ended, by outcome and cause. Of the ends that were "
                              "looked at, up to 1,000 a second.", ["queue", "status", "cause"], registry=self.registry)
        self._waits = Histogram("ganger_task_wait_seconds", "From the moment a task could start to its start.",
                                ["queue"], buckets=WAITS_S, registry=self.registry)
        self._runs = Histogram("ganger_task_run_seconds", "The last run of a task.", ["queue"], buckets=RUNS_S,
                               registry=self.registry)
        self._cpu = Counter("ganger_task_cpu_seconds", "CPU time of the last runs of tasks.", ["queue"],
                            registry=self.registry)
        self._restarts = Counter("ganger_worker_restarts", "Workers that ended with a task, by cause.", ["cause"],
                                 registry=self.registry)
        self._gaps = Counter("ganger_event_gaps", "How often events were gone before they could be counted.",
                             registry=self.registry)
        self._queues: set[str] = set()
        for status in TaskStatus:
            self._changes.labels(status.value)

    def count(self, events: Iterable[Event]) -> None:
        """Count changes of status."""
        for event in events:
            self._changes.labels(event.status.value).inc()

    def count_gap(self) -> None:
        """Count that events were gone before they could be counted."""
        self._gaps.inc()

    def learn(self, ends: Iterable[End]) -> None:
        """Count ends of tasks with their details."""
        for end in ends:
            queue = self._queue(end.queue)
            self._ended.labels(queue, end.status.value, end.cause).inc()
            self._cpu.labels(queue).inc(end.cpu_s)
            if end.wait_s is not None:
                self._waits.labels(queue).observe(end.wait_s)
            if end.wall_s is not None:
                self._runs.labels(queue).observe(end.wall_s)
            if end.cause in RESTARTING:
                self._restarts.labels(end.cause).inc()

    def _queue(self, queue: str) -> str:
        if queue not in self._queues and len(self._queues) >= QUEUES_MAX:
            return "other"
        self._queues.add(queue)
        return queue


def exposition(instruments: PrometheusMetrics, provider: EngineBrokerProvider) -> bytes:
    """Return all metrics in Prometheus's text format.

    While Redis is away these are the ones that are known without it, and `ganger_redis_up` is 0.
    """
    present = CollectorRegistry()
    present.register(_Gauges(provider))
    return generate_latest(instruments.registry) + generate_latest(present)


class _Gauges(Collector):
    """Reads the present from Redis when Prometheus asks."""

    def __init__(self, provider: EngineBrokerProvider) -> None:
        self._provider = provider

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("ganger_redis_up", "Whether Redis answers.")
        metrics: list[Metric] = []
        try:
            metrics = [*self._ready(), *self._queues(), *self._types(), *self._tasks(), *self._workers(),
                       *self._redis()]
            up.add_metric([], 1)
        except GangerError:
            up.add_metric([], 0)
        yield up
        yield from metrics

    def _ready(self) -> Iterator[Metric]:
        broker = self._provider.broker()
        found = find_problems(broker.supervisors(), set(broker.handlers()), broker.clock.now_ms())
        ready = GaugeMetricFamily("ganger_ready", "Whether tasks would run, as /scheduler/health tells with reasons.")
        ready.add_metric([], not found.reasons)
        yield ready

    def _queues(self) -> Iterator[Metric]:
        depth = GaugeMetricFamily("ganger_queue_tasks", "Tasks that wait in a queue.", labels=["queue", "priority"])
        age = GaugeMetricFamily("ganger_queue_oldest_age_seconds", "Since the submit of the first task of a line.",
                                labels=["queue", "priority"])
        paused = GaugeMetricFamily("ganger_queue_paused", "Whether a queue is paused.", labels=["queue"])
        for stats in _largest(self._provider.broker().queue_stats()):
            for priority, count in stats["queued"].items():
                depth.add_metric([stats["queue"], priority], count)
                age.add_metric([stats["queue"], priority], stats["oldest_s_by_priority"].get(priority, 0.0))
            paused.add_metric([stats["queue"]], stats["paused"])
        yield from (depth, age, paused)

    def _types(self) -> Iterator[Metric]:
        """Of so many types, the most numerous; the rest is "other"."""
        waiting = GaugeMetricFamily("ganger_unknown_type_tasks", "Tasks that wait and no living pool knows their type.",
                                    labels=["task_type"])
        counts = sorted(self._provider.broker().unknown_types().items(), key=lambda item: -item[1])
        for task_type, count in counts[:QUEUES_MAX]:
            waiting.add_metric([task_type], count)
        if rest := sum(count for _, count in counts[QUEUES_MAX:]):
            waiting.add_metric(["other"], rest)
        yield waiting

    def _tasks(self) -> Iterator[Metric]:
        tasks = GaugeMetricFamily("ganger_tasks", "Tasks in each status now.", labels=["status"])
        for status, count in self._provider.broker().status_counts().items():
            tasks.add_metric([str(status)], count)
        yield tasks

    def _workers(self) -> Iterator[Metric]:
        names = ["supervisor", "slot"]
        cpu = GaugeMetricFamily("ganger_worker_cpu_ratio", "CPU of a worker, of one core.", labels=names)
        memory = GaugeMetricFamily("ganger_worker_resident_memory_bytes", "Memory of a worker.", labels=names)
        busy = GaugeMetricFamily("ganger_worker_busy", "Whether a worker runs a task.", labels=names)
        starts = GaugeMetricFamily("ganger_worker_slot_restarts", "Fresh workers in a slot so far.", labels=names)
        lease = GaugeMetricFamily("ganger_supervisor_lease_seconds", "What is left of a supervisor's lease.",
                                  labels=["supervisor", "pool"])
        pending = GaugeMetricFamily("ganger_supervisor_outcomes_pending", "Outcomes that Redis does not know yet.",
                                    labels=["supervisor", "pool"])
        broker = self._provider.broker()
        now_ms = broker.clock.now_ms()
        for report in with_measurements(broker.supervisors(), broker.processes()):
            who = [report["supervisor"], str(report.get("pool"))]
            lease.add_metric(who, max(0.0, (report["lease_end_ms"] - now_ms) / 1000))
            pending.add_metric(who, report.get("outcomes_pending") or 0)
            for slot in report["slots"]:
                _add_slot([report["supervisor"], str(slot["slot"])], slot, cpu, memory, busy, starts)
        yield from (cpu, memory, busy, starts, lease, pending)

    def _redis(self) -> Iterator[Metric]:
        info = self._provider.broker().info()
        yield GaugeMetricFamily("ganger_redis_memory_bytes", "Memory that Redis uses.", info["used_memory_bytes"])
        yield GaugeMetricFamily("ganger_redis_memory_max_bytes", "Its limit; 0 is none.", info["maxmemory_bytes"])
        yield GaugeMetricFamily("ganger_redis_clients", "Connections to Redis.", info["clients"])
        sound = info["aof_ok"] and info["rdb_ok"]
        yield GaugeMetricFamily("ganger_redis_persistence_ok", "Whether Redis could write to its disk.", float(sound))
        skew_s = (info["skew_ms"] or 0) / 1000
        yield GaugeMetricFamily("ganger_redis_clock_skew_seconds", "This host's clock against Redis's.", skew_s)


def _add_slot(who: list[str], slot: dict[str, Any], cpu: GaugeMetricFamily, memory: GaugeMetricFamily,
              busy: GaugeMetricFamily, starts: GaugeMetricFamily) -> None:
    if slot["cpu_percent"] is not None:
        cpu.add_metric(who, slot["cpu_percent"] / 100)
    if slot["rss_bytes"] is not None:
        memory.add_metric(who, slot["rss_bytes"])
    busy.add_metric(who, slot.get("state") == "busy")
    starts.add_metric(who, slot.get("restarts") or 0)


def _largest(queues: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first queues by name while they are few; of many those in which the most waits, and the rest as "other"."""
    if len(queues) <= QUEUES_MAX:
        return queues
    by_size = sorted(queues, key=lambda stats: -sum(stats["queued"].values()))
    rest: dict[str, Any] = {"queue": "other", "paused": False, "queued": {}, "oldest_s_by_priority": {}}
    for stats in by_size[QUEUES_MAX:]:
        for priority, count in stats["queued"].items():
            rest["queued"][priority] = rest["queued"].get(priority, 0) + count
            age_s = stats["oldest_s_by_priority"].get(priority, 0.0)
            rest["oldest_s_by_priority"][priority] = max(rest["oldest_s_by_priority"].get(priority, 0.0), age_s)
    return [*by_size[:QUEUES_MAX], rest]
