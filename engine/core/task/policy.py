"""The policy of a run: the engine's settings, over them the handler's options, over them the task's options."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from engine.core.task.limits import Limits
from engine.core.task.options import Giver, given_by
from engine.core.task.record import RecordOptions
from engine.core.task.retry import RetryPolicy


def _policy_fields(giver: Giver, part: str) -> tuple[tuple[str, str], ...]:
    """Return (name of an option, field) for what a giver may set in one part of the policy; "" is the policy itself."""
    paths = ((name, *(option.policy or "").rpartition(".")) for name, option in given_by(giver).items())
    return tuple((name, field) for name, found, _, field in paths if field and found == part)


class _Fields(NamedTuple):
    """The fields that one giver may set, by the part of the policy that they are in."""

    own: tuple[tuple[str, str], ...]
    retry: tuple[tuple[str, str], ...]
    limits: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, giver: Giver) -> "_Fields":
        return cls(_policy_fields(giver, ""), _policy_fields(giver, "retry"), _policy_fields(giver, "limits"))


_OF_HANDLER, _OF_TASK = _Fields.of(Giver.HANDLER), _Fields.of(Giver.SUBMIT)


@dataclass(frozen=True, slots=True)
class RunPolicy:
    """What holds for a run. Times are in seconds; 0 is no limit.

    `result_ttl_s` and `failed_ttl_s` say how long a task is kept after it has completed, or ended in another way.
    `limits` is None where nothing that the run uses is limited. `preemptible` says whether the run may be suspended
    while an urgent run needs its slot.
    """

    timeout_s: float = 600.0
    soft_timeout_s: float = 0.0
    result_ttl_s: float = 86_400.0
    failed_ttl_s: float = 604_800.0
    limits: Limits | None = None
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    preemptible: bool = True

    def with_handler(self, announced: Mapping[str, Any]) -> "RunPolicy":
        """Apply a handler's options, by their names; what its author did not give stays as it is."""
        return self._with(announced, _OF_HANDLER)

    def with_options(self, options: RecordOptions) -> "RunPolicy":
        """Apply the options of one task."""
        return self._with(options, _OF_TASK)

    def after_crashes(self, crashes: int) -> "RunPolicy":
        """Return the policy of a run of a task that has cost so many workers."""
        if self.limits is None or (limits := self.limits.after_crashes(crashes)) is self.limits:
            return self
        return replace(self, limits=limits)

    def _with(self, given: Mapping[str, Any], fields: _Fields) -> "RunPolicy":
        own, retry, limits = ({field: given[name] for name, field in part if given.get(name) is not None}
                              for part in fields)
        if not own and not retry and not limits:
            return self
        return replace(self, **own, retry=replace(self.retry, **retry) if retry else self.retry,
                       limits=self._limits(limits) if limits else self.limits)

    def _limits(self, given: dict[str, Any]) -> Limits | None:
        limits = replace(self.limits or Limits(), **given)
        steps = tuple(limits.retry_memory_bytes)
        if "memory_bytes" in given and "retry_memory_bytes" not in given:
            steps = tuple(step for step in steps if step > limits.memory_bytes > 0)  # less than at first is no help
        limits = replace(limits, retry_memory_bytes=steps)
        return limits if limits.as_options() else None
