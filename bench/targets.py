"""Every figure that the table shows: its unit, and its target where there is one.

Targets are for two workers on two cores with Redis on the same machine, full isolation, stored results, leases and
events on. The peers' best figures behind them are in README.md.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of one benchmark. `at_least` says which side of the target is the good one."""

    benchmark: str
    name: str
    unit: str
    target: float | None = None
    at_least: bool = False

    def distance(self, value: float) -> str:
        """How far a value is from the target, in words; "" without one."""
        if self.target is None:
            return ""
        if self.met(value):
            return "met" if value == self.target or not min(value, self.target) else f"met, {self._times(value)}"
        if not self.target:
            return "missed"
        return f"{value / self.target:.0%} of it" if self.at_least else f"{value / self.target:.2f} times as much"

    def met(self, value: float) -> bool:
        assert self.target is not None
        return value >= self.target if self.at_least else value <= self.target

    def _times(self, value: float) -> str:
        assert self.target is not None
        return f"{value / self.target:.2f} times it"


def _more(benchmark: str, name: str, unit: str, target: float | None = None) -> Figure:
    return Figure(benchmark, name, unit, target, at_least=True)


FIGURES = (
    _more("throughput", "tasks_per_s", "tasks/s", 40_000),
    Figure("throughput", "supervisor_us_per_task", "µs CPU", 12),
    Figure("throughput", "worker_us_per_task", "µs CPU"),
    Figure("throughput", "redis_us_per_task", "µs CPU, without the submit"),
    Figure("throughput", "redis_us_per_task_with_submit", "µs CPU", 15),
    Figure("throughput", "redis_client_commands_per_task", "commands", 0.1),
    Figure("throughput", "redis_commands_per_task", "commands, in scripts too"),
    Figure("throughput", "queued_bytes_per_task", "bytes", 350),
    _more("results", "results_per_s", "tasks/s, submit to result in hand"),
    _more("results", "as_completed_per_s", "tasks/s, submit to result in hand"),
    _more("results", "wait_per_s", "tasks/s, submit to result in hand"),
    Figure("results", "read_us_per_task", "µs CPU of the client", 12),
    _more("submit", "submit_many_per_s", "tasks/s", 100_000),
    _more("submit", "submit_per_s", "tasks/s", 10_000),
    _more("submit", "round_trips_per_s", "PINGs/s, redis-py"),
    _more("submit", "submit_to_round_trips", "ratio"),
    Figure("latency", "start_ms_p50", "ms", 0.4),
    Figure("latency", "start_ms_p99", "ms", 1.0),
    Figure("latency", "result_ms_p50", "ms", 0.8),
    Figure("latency", "result_ms_p99", "ms", 1.6),
    Figure("idle", "tree_cpu_percent", "% of a core", 0.3),
    Figure("idle", "redis_cpu_percent", "% of a core"),
    Figure("idle", "redis_commands_per_s", "commands/s", 1),
    Figure("sampling", "sampling_cpu_percent", "% of a core, 16 workers", 1),
    Figure("memory", "worker_pss_mib", "MiB PSS", 6 * 1e6 / 2**20),
    Figure("memory", "tree_pss_mib", "MiB PSS"),
    _more("depth", "many_tasks_per_s", "tasks/s"),
    _more("depth", "many_to_few", "ratio", 0.9),
    _more("depth", "growing_to_few", "ratio, while Redis grows"),
    _more("distance", "far_tasks_per_s", "tasks/s"),
    _more("distance", "far_to_near", "ratio", 0.7),
    _more("payloads", "pipe_mb_per_s", "MB/s", 300),
    _more("payloads", "engine_mb_per_s", "MB/s"),
    Figure("payloads", "small_alone_start_ms_p99", "ms"),
    Figure("payloads", "small_beside_start_ms_p99", "ms", 20),
    Figure("mixed", "short_start_ms_p99", "ms", 20),
    Figure("mixed", "late_with_a_free_slot", "tasks", 0),
    _more("workers", "simulated_tasks_per_s", "tasks/s", 30_000),
    Figure("workers", "simulated_many_to_few", "ratio", 1.1),
    _more("workers", "real_tasks_per_s", "tasks/s"),
    Figure("workers", "real_many_to_few", "ratio", 1.1),
    _more("api", "submits_per_s", "calls/s", 2_000),
    _more("api", "reads_per_s", "calls/s", 3_000),
    Figure("api", "half_submit_ms_p99", "ms", 25),
    Figure("api", "half_read_ms_p99", "ms", 25),
    Figure("api", "api_us_per_submit", "µs"),
    Figure("api", "api_us_per_read", "µs"),
    Figure("api", "api_rss_mib", "MiB"),
    _more("features", "fair_to_plain", "ratio", 0.85),
    _more("features", "full_to_plain", "ratio", 0.85),
    _more("features", "limited_tasks_per_s", "tasks/s, watched"),
    _more("features", "limited_to_plain", "ratio", 0.85),
    Figure("isolation", "hang_python_death_ms_p50", "ms after the deadline"),
    Figure("isolation", "hang_python_death_ms_p99", "ms after the deadline", 25),
    Figure("isolation", "hang_python_replaced_ms_p50", "ms after the death"),
    Figure("isolation", "hang_python_replaced_ms_p99", "ms after the death", 30),
    Figure("isolation", "hang_c_death_ms_p50", "ms after the deadline"),
    Figure("isolation", "hang_c_death_ms_p99", "ms after the deadline", 25),
    Figure("isolation", "hang_c_replaced_ms_p50", "ms after the death"),
    Figure("isolation", "hang_c_replaced_ms_p99", "ms after the death", 30),
    Figure("isolation", "memory_death_ms_p50", "ms after max_memory"),
    Figure("isolation", "memory_death_ms_p99", "ms after max_memory", 250),
    _more("isolation", "storm_crashes_per_s", "crashes/s"),
    Figure("urgent", "start_ms_p50", "ms"),
    Figure("urgent", "start_ms_p99", "ms", 25),
    Figure("urgent", "result_ms_p50", "ms"),
    Figure("urgent", "low_hurt", "LOW runs", 0),
)
