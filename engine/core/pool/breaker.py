"""Stops a handler that keeps costing workers for a while, so that all others run on.

1. More than `intensity` deaths of workers under one handler's runs within `period_s` stop it for `pause_s`.
2. If it is stopped again within `period_s` of going on, the pause is twice the one before, up to `pause_s_max`.
3. Only deaths that the engine has not caused count: no timeouts, cancels, and limits that a run has passed.
"""

from dataclasses import dataclass, field

from engine.core.tree.restart import RestartBudget


@dataclass(frozen=True, slots=True)
class BreakerTerms:
    """`intensity` 0: no handler is ever stopped."""

    intensity: int = 20
    period_s: float = 10.0
    pause_s: float = 10.0
    pause_s_max: float = 300.0


@dataclass(slots=True)
class Stop:
    """Why a handler does not run, and until when. Kept for a period after that: see rule 2."""

    until_s: float
    pause_s: float
    deaths: int


@dataclass(slots=True)
class Breaker:
    """All handlers of a pool. `stops` is empty as long as none was ever stopped, which is what the pool asks first."""

    terms: BreakerTerms = field(default_factory=BreakerTerms)
    stops: dict[str, Stop] = field(default_factory=dict)
    _deaths: dict[str, RestartBudget] = field(default_factory=dict)

    def died(self, task_type: str, now_s: float) -> Stop | None:
        """A worker has died under a run of this handler; the stop, if that was one death too many."""
        terms = self.terms
        if not terms.intensity:
            return None
        budget = self._deaths.get(task_type)
        if budget is None:
            budget = self._deaths[task_type] = RestartBudget(terms.intensity, terms.period_s)
        if budget.spend(now_s):
            return None
        del self._deaths[task_type]
        before = self.stops.get(task_type)
        pause_s = terms.pause_s
        if before is not None and now_s < before.until_s + terms.period_s:
            pause_s = min(2 * before.pause_s, terms.pause_s_max)
        stop = self.stops[task_type] = Stop(now_s + pause_s, pause_s, terms.intensity + 1)
        return stop

    def stop_of(self, task_type: str, now_s: float) -> Stop | None:
        """The stop that holds for a handler now, if one does."""
        stop = self.stops.get(task_type)
        if stop is None or now_s < stop.until_s:
            return stop
        if now_s >= stop.until_s + self.terms.period_s:
            del self.stops[task_type]
        return None

    def stopped(self, now_s: float) -> dict[str, Stop]:
        """All that are stopped now."""
        return {name: stop for name in list(self.stops) if (stop := self.stop_of(name, now_s)) is not None}
