"""Single decisions that chance meets too rarely in the machines of `tests/property`."""

from typing import Any

import pytest

from engine.core.pool.actions import Interrupt, Kill, Send, Settle, TakeBack, Unwatch, Watch
from engine.core.pool.deadlines import Timing
from engine.core.pool.dispatch import Dispatch
from engine.core.pool.slot import Run
from engine.core.pool.window import PATIENCE_S, Windows
from engine.core.task.lifecycle import Move
from engine.core.task.limits import Limits
from engine.core.task.outcome import Cause, Outcome
from engine.core.task.policy import RunPolicy
from engine.core.task.retry import RetryPolicy
from engine.core.tree.restart import RestartBudget

WINDOW, TIMEOUT_S = 4, 5.0


class Pool:
    """One worker that is up and quick, at the time `now_s`."""

    def __init__(self) -> None:
        self.now_s = 100.0
        windows = Windows(WINDOW)
        windows.observe("t", 1e-6)
        self.core = Dispatch(1, RestartBudget(5, 30.0), windows, Timing(), lambda: 0.5)
        self.core.start(self.now_s)
        self.core.booted(0, 7, self.now_s)
        self.core.actions.clear()

    def claim(self, count: int, **retry: Any) -> list[Run]:
        policy = RunPolicy(timeout_s=TIMEOUT_S, retry=RetryPolicy(**retry))
        runs = [Run(b"%019d" % n, 1, 0, 0, "t", "q", policy, b"", n + 1) for n in range(count)]
        self.core.claimed(runs, self.now_s)
        return runs

    def let_die(self) -> None:
        self.core.exited(0, lambda run: Outcome.killed(run.number, "SIGKILL"), [], self.now_s)

    def did(self, kind: type[Any]) -> list[Any]:
        found = [action for action in self.core.actions if type(action) is kind]
        self.core.actions.clear()
        return found


@pytest.fixture
def pool() -> Pool:
    return Pool()


def test_a_worker_gets_as_many_ahead_as_its_window_has_room_for(pool: Pool) -> None:
    pool.claim(WINDOW + 3)
    assert len(pool.did(Send)) == WINDOW


def test_a_run_that_is_killed_at_its_timeout_has_timed_out_and_those_behind_it_go_back(pool: Pool) -> None:
    first, second = pool.claim(2)
    pool.now_s += TIMEOUT_S
    pool.core.tick(pool.now_s)
    assert pool.did(Kill)
    pool.let_die()
    ends = {end.run.task_id: end for end in pool.did(Settle)}
    assert (ends[first.task_id].verdict.move, ends[first.task_id].outcome.cause) == (Move.TIME_OUT, Cause.TIMEOUT)
    assert ends[second.task_id].verdict.move is Move.RELEASE


def test_a_reply_after_the_kill_was_decided_is_too_late(pool: Pool) -> None:
    (run,) = pool.claim(1)
    pool.now_s += TIMEOUT_S
    pool.core.tick(pool.now_s)
    assert pool.did(Kill)
    pool.core.replied(0, run.token, b"C", 1.0, b"{}", pool.now_s)
    assert not pool.did(Settle)


def test_what_may_be_started_once_is_not_given_back_when_the_engine_ends_it(pool: Pool) -> None:
    pool.claim(1, max_deliveries=1)
    assert pool.did(Send)
    pool.core.fence()
    pool.let_die()
    (end,) = pool.did(Settle)
    assert (end.verdict.move, end.outcome.cause) == (Move.FAIL, Cause.LEASE_LOST)


def test_what_may_be_started_twice_is_given_back_once(pool: Pool) -> None:
    pool.claim(1, max_deliveries=2)
    assert pool.did(Send)
    pool.core.fence()
    pool.let_die()
    (end,) = pool.did(Settle)
    assert end.verdict.move is Move.RELEASE


def test_the_first_reason_to_cancel_stands(pool: Pool) -> None:
    (run,) = pool.claim(1)
    pool.core.cancel(run.task_id, "first", pool.now_s)
    pool.core.cancel(run.task_id, "second", pool.now_s)
    assert len(pool.did(Interrupt)) == 1
    assert run.cancelled == "first"


def test_what_ends_before_more_can_come_is_claimed_ahead_while_runs_are_short(pool: Pool) -> None:
    pool.core.ahead = 3
    assert pool.core.room(pool.now_s).runs == 1, "how long runs are is not known yet"
    for _ in range(200):
        pool.core.windows.observe("t", 1e-6)
    assert pool.core.room(pool.now_s).runs == WINDOW + 3
    pool.claim(WINDOW + 2)
    assert pool.core.room(pool.now_s).runs == 1
    for _ in range(100):
        pool.core.windows.observe("t", 1.0)
    assert pool.core.room(pool.now_s).runs == 0


def test_a_cancel_of_what_is_being_killed_says_nothing_more_to_it_and_is_its_end(pool: Pool) -> None:
    (run,) = pool.claim(1)
    pool.core.fence()
    pool.core.cancel(run.task_id, "nobody wants it", pool.now_s)
    assert not pool.did(Interrupt)
    pool.let_die()
    (end,) = pool.did(Settle)
    assert end.verdict.move is Move.CANCEL


def test_one_that_dies_of_itself_after_it_was_cancelled_is_cancelled(pool: Pool) -> None:
    (run,) = pool.claim(1)
    pool.core.cancel(run.task_id, "nobody wants it", pool.now_s)
    assert pool.did(Interrupt)
    pool.let_die()
    (end,) = pool.did(Settle)
    assert (end.verdict.move, end.outcome.cause) == (Move.CANCEL, Cause.CANCELLED)


def test_what_waits_behind_a_run_is_looked_at_when_that_has_been_long(pool: Pool) -> None:
    first, second, third = pool.claim(3)
    pool.core.replied(0, first.token, b"C", 1e-6, b"{}", pool.now_s)
    pool.now_s += PATIENCE_S
    pool.core.tick(pool.now_s)
    assert pool.did(TakeBack)
    pool.core.taken_back(0, [third.token], pool.now_s)
    assert list(pool.core.slots[0].runs) == [second]


def test_a_claim_that_comes_after_the_drain_began_is_given_back(pool: Pool) -> None:
    pool.core.drain(pool.now_s, 30.0)
    pool.claim(2)
    assert [end.verdict.move for end in pool.did(Settle)] == [Move.RELEASE] * 2


def test_what_waits_for_a_worker_when_the_lease_lapses_is_given_back(pool: Pool) -> None:
    runs = pool.claim(WINDOW + 2)
    pool.core.fence()
    assert [end.run for end in pool.did(Settle)] == runs[WINDOW:]


class TestLimits:
    LIMITS = Limits(memory_bytes=100)

    def claim(self, pool: Pool, *kinds: Limits | None) -> list[Run]:
        runs = [Run(b"%019d" % n, 1, 0, 0, "t", "q", RunPolicy(limits=limits), b"", n + 1)
                for n, limits in enumerate(kinds)]
        pool.core.claimed(runs, pool.now_s)
        return runs

    def test_runs_with_the_same_are_held_to_them_together(self, pool: Pool) -> None:
        first, second = self.claim(pool, self.LIMITS, Limits(memory_bytes=100))
        assert [type(action) for action in pool.core.actions] == [Watch, Send, Send]
        pool.core.actions.clear()
        pool.core.replied(0, first.token, b"C", 1e-6, b"{}", pool.now_s)
        assert not pool.did(Unwatch)
        pool.core.replied(0, second.token, b"C", 1e-6, b"{}", pool.now_s)
        assert pool.did(Unwatch)

    def test_a_run_that_may_have_left_something_is_not_charged_to_the_next(self, pool: Pool) -> None:
        runs = self.claim(pool, self.LIMITS, self.LIMITS, self.LIMITS)
        pool.core.actions.clear()
        pool.core.replied(0, runs[0].token, b"C", 1e-6, b"{}", pool.now_s)
        assert not pool.did(Watch), "it was too short to leave anything"
        pool.core.replied(0, runs[1].token, b"C", 0.005, b"{}", pool.now_s)
        assert pool.did(Watch) == [Watch(0, self.LIMITS)]
        pool.core.replied(0, runs[2].token, b"C", 0.005, b"{}", pool.now_s)
        assert [type(action) for action in pool.core.actions if type(action) in (Watch, Unwatch)] == [Unwatch]

    @pytest.mark.parametrize("other", [None, Limits(memory_bytes=200)])
    def test_one_with_others_waits_until_they_have_ended(self, pool: Pool, other: Limits | None) -> None:
        for kinds in ((self.LIMITS, other), (other, self.LIMITS)):
            first, second = self.claim(pool, *kinds)
            assert [send.run for send in pool.did(Send)] == [first]
            pool.core.replied(0, first.token, b"C", 1e-6, b"{}", pool.now_s)
            pool.core.fill(pool.now_s)
            assert [send.run for send in pool.did(Send)] == [second]
            pool.core.replied(0, second.token, b"C", 1e-6, b"{}", pool.now_s)

    def test_when_all_are_taken_back_nobody_is_held_to_them(self, pool: Pool) -> None:
        (run,) = self.claim(pool, self.LIMITS)
        pool.core.draining = True
        pool.did(Send)
        pool.core.taken_back(0, [run.token], pool.now_s)
        assert pool.did(Unwatch)

    def test_what_is_said_of_those_before_ends_nobody(self, pool: Pool) -> None:
        (run,) = self.claim(pool, self.LIMITS)
        pool.core.replied(0, run.token, b"C", 1e-6, b"{}", pool.now_s)
        self.claim(pool, Limits(memory_bytes=100))
        pool.core.exceeded(0, self.LIMITS, Cause.OUT_OF_MEMORY, "too much")
        assert not pool.did(Kill)
