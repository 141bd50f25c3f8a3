"""Duties by themselves: when each is due, and that a new one needs nothing of the rounds."""

from collections.abc import Callable
from typing import Any

import pytest

from engine.errors import BrokerError, BrokerUnavailable
from engine.ports.keeper_broker import PollResult
from engine.services.keeper.duties.due_tasks import PAUSE_S, Expiry, Promotion, Removal
from engine.services.keeper.duties.duty import LOG_S, BatchDuty, Duty, Refusals
from engine.services.keeper.rounds import POLL_S, TICK_S, Rounds

NEVER = float("inf")


class Tasks:
    """Redis with moments in it, ms from now on. Its clock is ours."""

    def __init__(self, *moments_ms: int) -> None:
        self.now_s = 1000.0
        self.moments_ms = [self.now_ms() + moment for moment in moments_ms]
        self.leads, self.polls, self.moved = True, 0, 0

    def monotonic_s(self) -> float:
        return self.now_s

    def now_ms(self) -> int:
        return int(self.now_s * 1000)

    def poll(self, keeper: str, until_ms: int) -> PollResult:
        self.polls += 1
        first = min(self.moments_ms, default=NEVER)
        return PollResult(self.leads, {}, first, first, first, 0)

    def promote(self, limit: int) -> tuple[int, int | None]:
        due = [moment for moment in self.moments_ms if moment <= self.now_ms()][:limit]
        self.moments_ms = [moment for moment in self.moments_ms if moment not in due]
        self.moved += len(due)
        return len(due), min(self.moments_ms, default=None)

    expire = sweep = promote


class Counted(BatchDuty):
    """A duty of somebody else's."""

    name, period_s, budget_s = "counted", 10.0, 0.5

    def __init__(self, monotonic_s: Callable[[], float], *, error: Exception | None = None) -> None:
        super().__init__(monotonic_s)
        self.done, self._error = 0, error

    def _do_batch(self) -> bool:
        self.done += 1
        if self._error is not None:
            raise self._error
        return False


def make(redis: Any, *duties: Duty) -> Rounds:
    return Rounds("k", redis, duties, Refusals(redis.monotonic_s), redis.monotonic_s)


def pass_time(redis: Tasks, rounds: Rounds, seconds: float, tick_s: float = 0.01) -> None:
    """Go a round when it said that it has to, to within a tick."""
    end_s, next_s = redis.now_s + seconds, redis.now_s
    while redis.now_s < end_s:
        if redis.now_s >= next_s:
            next_s = redis.now_s + rounds.go()
        redis.now_s += tick_s


@pytest.mark.parametrize("kind", [Promotion, Expiry])
def test_each_task_is_moved_at_its_moment_also_soon_after_another(kind: type[Promotion]) -> None:
    redis = Tasks(300, 800, 1500)
    rounds = make(redis, kind(redis, redis.monotonic_s))  # type: ignore[arg-type]
    for seconds, moved in ((0.4, 1), (0.5, 2), (0.7, 3)):
        pass_time(redis, rounds, seconds)
        assert redis.moved == moved


def test_tasks_that_are_due_close_to_each_other_are_moved_together() -> None:
    redis = Tasks(*range(0, 1000, 2))
    pass_time(redis, make(redis, Promotion(redis, redis.monotonic_s)), 1.1)  # type: ignore[arg-type]
    assert redis.moved == 500
    assert redis.polls <= 1.1 / PAUSE_S + 1


def test_removal_wakes_nobody() -> None:
    redis = Tasks(100, 200, 300)
    rounds = make(redis, Removal(redis, redis.monotonic_s))  # type: ignore[arg-type]
    pass_time(redis, rounds, 1.0)
    assert (redis.polls, redis.moved) == (1, 0)
    pass_time(redis, rounds, POLL_S)
    assert redis.moved == 3


def test_a_duty_by_the_clock_is_done_by_the_one_that_leads() -> None:
    redis = Tasks()
    duty = Counted(redis.monotonic_s)
    rounds = make(redis, duty)
    pass_time(redis, rounds, 25.0, tick_s=TICK_S / 2)
    assert duty.done == 3
    redis.leads = False
    pass_time(redis, rounds, 25.0, tick_s=TICK_S / 2)
    assert duty.done == 3


@pytest.mark.parametrize(("error", "goes_on"), [(BrokerError("no"), True), (BrokerUnavailable("away"), False)])
def test_what_redis_refuses_of_one_duty_stops_no_other(error: Exception, goes_on: bool,
                                                       caplog: pytest.LogCaptureFixture) -> None:
    redis = Tasks()
    refused, other = Counted(redis.monotonic_s, error=error), Counted(redis.monotonic_s)
    rounds = make(redis, refused, other)
    assert rounds.go() > 0, "it is not tried again at once"
    assert bool(other.done) is goes_on is rounds.has_contact
    assert len(caplog.records) == 1


def test_the_same_refusal_is_logged_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    redis, heard = Tasks(), list[BrokerError]()
    refusals = Refusals(redis.monotonic_s)
    refusals.listeners.append(heard.append)

    def refuse() -> bool:
        raise BrokerError("no")

    for _ in range(10):
        assert refusals.attempt(refuse) is False
    assert (len(caplog.records), len(heard)) == (1, 10)
    redis.now_s += LOG_S
    refusals.attempt(refuse)
    assert len(caplog.records) == 2
