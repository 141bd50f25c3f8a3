import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.core.pool.window import AHEAD_S, Windows
from engine.core.task.lifecycle import Move
from engine.core.task.outcome import Cause, Outcome
from engine.core.task.policy import RunPolicy
from engine.core.task.retry import ChargedTo, RetryPolicy, Verdict, verdict
from engine.core.tree.restart import RestartBudget


def judge(cause: Cause, policy: RetryPolicy | None = None, **facts: object) -> Verdict:
    known = {"run": 1, "attempts": 0, "crashes": 0, "chance": 0.0, **facts}
    return verdict(cause, policy or RetryPolicy(jitter=0), **known)  # type: ignore[arg-type]


def test_a_return_completes_and_costs_nothing() -> None:
    assert judge(Cause.RETURNED) == Verdict(Move.COMPLETE, ChargedTo.NOBODY)


def test_a_cancel_costs_nothing() -> None:
    assert judge(Cause.CANCELLED) == Verdict(Move.CANCEL, ChargedTo.NOBODY)


@pytest.mark.parametrize(("attempts", "pause_s"), [(0, 1.0), (1, 2.0), (2, 4.0)])
def test_an_error_is_retried_after_a_growing_pause(attempts: int, pause_s: float) -> None:
    assert judge(Cause.RAISED, attempts=attempts) == Verdict(Move.RETRY, ChargedTo.ATTEMPT, pause_s)


def test_the_last_attempt_fails() -> None:
    assert judge(Cause.RAISED, attempts=3) == Verdict(Move.FAIL, ChargedTo.ATTEMPT)


def test_what_no_run_can_mend_fails_at_once() -> None:
    assert judge(Cause.INVALID_PAYLOAD, retryable=False) == Verdict(Move.FAIL, ChargedTo.ATTEMPT)


def test_a_handler_may_name_its_own_pause() -> None:
    assert judge(Cause.RETRY_ASKED, after_s=0.0).pause_s == 0.0
    assert judge(Cause.RETRY_ASKED, after_s=7.5).pause_s == 7.5


@pytest.mark.parametrize("cause", [Cause.TIMEOUT, Cause.SOFT_TIMEOUT])
def test_a_timeout_ends_the_task_unless_the_handler_wants_retries(cause: Cause) -> None:
    assert judge(cause) == Verdict(Move.TIME_OUT, ChargedTo.ATTEMPT)
    patient = RetryPolicy(retry_on_timeout=True, max_retries=1, jitter=0)
    assert judge(cause, patient) == Verdict(Move.RETRY, ChargedTo.ATTEMPT, 1.0)
    assert judge(cause, patient, attempts=1) == Verdict(Move.TIME_OUT, ChargedTo.ATTEMPT)


@pytest.mark.parametrize("cause", [Cause.KILLED, Cause.EXITED, Cause.OUT_OF_MEMORY])
def test_crashes_have_a_budget_of_their_own(cause: Cause) -> None:
    """Whatever has become of the retries, a crash is charged to the crash budget alone."""
    assert judge(cause, attempts=99) == Verdict(Move.RETRY, ChargedTo.CRASH, 1.0)
    assert judge(cause, crashes=1) == Verdict(Move.RETRY, ChargedTo.CRASH, 2.0)
    assert judge(cause, crashes=2) == Verdict(Move.FAIL, ChargedTo.CRASH, poison=True)


@pytest.mark.parametrize("cause", [Cause.RAISED, Cause.KILLED])
def test_at_most_once_is_never_run_again(cause: Cause) -> None:
    assert judge(cause, RetryPolicy(max_deliveries=1)).move is Move.FAIL


def test_deliveries_may_be_bounded_higher() -> None:
    assert judge(Cause.RAISED, RetryPolicy(max_deliveries=2)).move is Move.RETRY
    assert judge(Cause.RAISED, RetryPolicy(max_deliveries=2), run=2).move is Move.FAIL


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_a_pause_never_exceeds_its_cap_nor_loses_more_than_the_jitter(retry: int, chance: float) -> None:
    policy = RetryPolicy(backoff_s=2.0, factor=3.0, backoff_s_max=100.0, jitter=0.25)
    pause_s = policy.pause_s(retry, chance)
    full_s = min(100.0, 2.0 * 3.0 ** min(retry - 1, 50))
    assert 0.75 * full_s <= pause_s <= full_s


def test_the_policy_of_a_run_is_settings_then_handler_then_task() -> None:
    policy = RunPolicy(timeout_s=60).with_handler({"timeout": 30, "max_retries": 5, "retry_on_timeout": True})
    assert (policy.timeout_s, policy.retry.max_retries, policy.retry.retry_on_timeout) == (30, 5, True)
    once = policy.with_options({"timeout": 5, "max_retries": 0, "max_deliveries": 1})
    assert (once.timeout_s, once.retry.max_retries, once.retry.max_deliveries) == (5, 0, 1)
    assert once.retry.retry_on_timeout


def test_a_policy_that_nobody_changes_is_the_same_object() -> None:
    policy = RunPolicy()
    assert policy.with_options({"name": "x"}) is policy.with_handler({}) is policy
    assert policy.with_options({"result_ttl": 9.0}).retry is policy.retry


def test_the_restart_budget_is_exceeded_by_one_more_than_its_intensity_within_the_period() -> None:
    budget = RestartBudget(intensity=2, period_s=10.0)
    assert [budget.spend(now_s) for now_s in (0.0, 5.0, 10.0)] == [True, True, False]
    assert budget.spend(30.0)


def test_the_pause_between_restarts_doubles_up_to_its_cap() -> None:
    budget, pauses = RestartBudget(9, 100.0, pause_s=0.1, pause_s_max=0.5), []
    for now_s in range(5):
        budget.spend(float(now_s))
        pauses.append(budget.next_pause_s())
    assert pauses == [0.0, 0.1, 0.2, 0.4, 0.5]


def test_windows_follow_what_runs_took() -> None:
    windows = Windows(most=64)
    assert windows.of("unseen") == 1
    assert windows.overall == 1
    for _ in range(400):
        windows.observe("short", AHEAD_S / 1000)
    assert windows.of("short") == windows.overall == 64
    windows.observe("long", 1.0)
    assert windows.of("long") == 1
    assert windows.overall == 1
    windows.observe("middling", AHEAD_S / 8)
    assert windows.of("middling") == 9, "eight wait behind the one that runs"
    windows.observe("two a breath", AHEAD_S / 1.9)
    assert windows.of("two a breath") == 2


def test_an_outcome_says_what_happened_and_what_it_used() -> None:
    death = Outcome.killed(2, "SIGSEGV", pid=7, cpu_s=1.5)
    told = orjson.loads(death.renamed(Outcome.timed_out(2, 30)).encode())
    assert (told["cause"], told["error"]["kind"], told["pid"], told["cpu_s"]) == ("timeout", "Timeout", 7, 1.5)
    assert "30 s" in told["error"]["message"]
    assert Outcome.exited(1, 3).message.endswith("code 3 in the middle of the run")
    assert Outcome.unreadable(1, "torn").cause is Cause.INVALID_PAYLOAD


def test_a_handler_may_say_that_nobody_makes_its_runs_stand_still() -> None:
    assert RunPolicy().preemptible
    assert not RunPolicy().with_handler({"preemptible": False}).preemptible
