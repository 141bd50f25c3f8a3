"""A handler that keeps costing workers is stopped for a while, alone."""

from engine.core.pool.actions import Send, Settle, Spawn, Stopped
from engine.core.pool.breaker import Breaker, BreakerTerms
from engine.core.pool.deadlines import Timing
from engine.core.pool.dispatch import Dispatch
from engine.core.pool.slot import Run
from engine.core.pool.window import Windows
from engine.core.task.lifecycle import Move
from engine.core.task.outcome import Outcome
from engine.core.task.policy import RunPolicy
from engine.core.task.retry import ChargedTo
from engine.core.tree.restart import RestartBudget

TERMS = BreakerTerms(intensity=2, period_s=10.0, pause_s=5.0, pause_s_max=12.0)


def stop(breaker: Breaker, now_s: float) -> float:
    """Have as many deaths as it takes; the pause."""
    assert breaker.died("bad", now_s) is None
    assert breaker.died("bad", now_s) is None
    stop = breaker.died("bad", now_s)
    assert stop is not None
    return stop.pause_s


def test_one_death_too_many_within_the_period_stops_the_handler_and_no_other() -> None:
    breaker = Breaker(TERMS)
    assert stop(breaker, 100.0) == 5.0
    assert breaker.stop_of("bad", 104.9) is not None
    assert breaker.stop_of("bad", 105.0) is None
    assert breaker.stop_of("good", 100.0) is None
    assert list(breaker.stopped(104.9)) == ["bad"]
    assert not breaker.stopped(105.0)


def test_deaths_that_are_far_apart_do_not_stop_it() -> None:
    breaker = Breaker(TERMS)
    assert all(breaker.died("bad", now_s) is None for now_s in range(0, 1000, 6))
    assert not breaker.stops


def test_each_stop_soon_after_another_is_longer_up_to_a_bound() -> None:
    breaker = Breaker(TERMS)
    assert stop(breaker, 0.0) == 5.0
    assert stop(breaker, 14.9) == 10.0
    assert stop(breaker, 25.0) == 12.0


def test_a_handler_that_went_well_for_a_period_starts_anew() -> None:
    breaker = Breaker(TERMS)
    stop(breaker, 0.0)
    assert breaker.stop_of("bad", 15.0) is None
    assert not breaker.stops
    assert stop(breaker, 15.0) == 5.0
    assert stop(breaker, 30.0) == 5.0  # nobody had asked since


def test_no_intensity_is_no_breaker() -> None:
    breaker = Breaker(BreakerTerms(intensity=0))
    assert all(breaker.died("bad", 0.0) is None for _ in range(1000))


def test_a_pool_holds_back_what_is_stopped_and_runs_all_others() -> None:
    core = Dispatch(1, RestartBudget(5, 30.0), Windows(1), Timing(), lambda: 0.5, 0, Breaker(TERMS))
    core.start(0.0)
    made = 0

    def claim(task_type: str) -> Run:
        nonlocal made
        made += 1
        run = Run(b"t%d" % made, 1, 0, 0, task_type, "q", RunPolicy(), b"", made)
        core.claimed([run], 1.0)
        return run

    for _ in range(3):
        core.booted(0, 100, 1.0)
        claim("bad")
        waiting = claim("bad")
        core.actions.clear()
        core.exited(0, lambda run: Outcome.killed(run.number, "SIGSEGV"), [], 1.0)
    assert Stopped("bad", 5.0, 3) in core.actions
    held = [action for action in core.actions if isinstance(action, Settle) and action.run is waiting]
    assert [(one.verdict.move, one.verdict.charged_to, one.verdict.pause_s) for one in held] == [
        (Move.RETRY, ChargedTo.NOBODY, 5.25)]
    assert isinstance(held[0].outcome, Outcome)
    assert held[0].outcome.message == "not started: 'bad' has cost 3 workers, and is stopped for another 5.0 s"
    assert Spawn(0) in core.actions
    core.booted(0, 100, 1.0)
    core.actions.clear()
    claim("bad")
    good = claim("good")
    assert [action.run for action in core.actions if isinstance(action, Send)] == [good]
    assert not core.backlog.runs
