"""What holds for the runs of one handler: its own wishes over the engine's settings, and a task's over both."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from engine.core.task.limits import Limits
from engine.core.task.record import Options
from engine.core.task.retry import RetryPolicy

_LIMITS = {"max_memory": "memory_bytes", "max_cpu_seconds": "cpu_s", "max_processes": "processes", "nice": "nice",
           "retry_with_memory": "memory_ladder"}


@dataclass(frozen=True, slots=True)
class RunPolicy:
    """Limits of a run. Times are seconds; 0 means no limit."""

    timeout_s: float = 600.0
    soft_timeout_s: float = 0.0
    result_ttl_s: float = 86_400.0
    failed_ttl_s: float = 604_800.0
    limits: Limits | None = None  # None: nothing of what it uses is limited
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    preemptible: bool = True  # may stand still while an urgent run has its place

    def with_handler(self, announced: Mapping[str, Any]) -> "RunPolicy":
        """Apply a handler's announcement, which holds only what its author gave."""
        return self._with(announced, {
            "max_retries": "max_retries", "retry_backoff_s": "backoff_s", "retry_factor": "factor",
            "retry_backoff_s_max": "backoff_s_max", "retry_jitter": "jitter", "max_crashes": "max_crashes",
            "max_deliveries": "max_deliveries", "retry_on_timeout": "retry_on_timeout",
        })

    def with_options(self, options: Options) -> "RunPolicy":
        """Apply what the submitter of one task said."""
        return self._with(options, {"max_retries": "max_retries", "max_deliveries": "max_deliveries"})

    def after_crashes(self, crashes: int) -> "RunPolicy":
        """What holds for a run of a task that has cost so many workers."""
        if self.limits is None or (limits := self.limits.after_crashes(crashes)) is self.limits:
            return self
        return replace(self, limits=limits)

    def _with(self, given: Mapping[str, Any], retry_names: Mapping[str, str]) -> "RunPolicy":
        plain: dict[str, Any] = {f"{name}_s": given[name] for name in ("timeout", "soft_timeout", "result_ttl")
                                 if given.get(name) is not None}
        if given.get("preemptible") is not None:
            plain["preemptible"] = bool(given["preemptible"])
        retry = {field: given[name] for name, field in retry_names.items() if given.get(name) is not None}
        used = {field: given[name] for name, field in _LIMITS.items() if given.get(name) is not None}
        if not plain and not retry and not used:
            return self
        return replace(self, **plain, retry=replace(self.retry, **retry) if retry else self.retry,
                       limits=self._limits(used) if used else self.limits)

    def _limits(self, used: dict[str, Any]) -> Limits | None:
        if "memory_ladder" in used:
            used["memory_ladder"] = tuple(used["memory_ladder"])
        limits = replace(self.limits or Limits(), **used)
        if "memory_bytes" in used and "memory_ladder" not in used:  # a rung below the first would be no help
            ladder = tuple(rung for rung in limits.memory_ladder if rung > limits.memory_bytes > 0)
            limits = replace(limits, memory_ladder=ladder)
        return limits if limits.told() else None
