"""Which run is suspended for which, and until when: single decisions of a pool whose clock stands until it is moved."""

from typing import Any

import pytest

from engine.core.pool.actions import Interrupt, Kill, Preempt, Quit, Resume, Send, Settle, Spawn, Suspend
from engine.core.pool.backlog import BACKLOG_S_MAX
from engine.core.pool.deadlines import Timing
from engine.core.pool.dispatch import Dispatch, Room
from engine.core.pool.preemption import REFUSED_PAUSE_S, STANDBY_S, PreemptionLimits
from engine.core.pool.slot import NEVER, Phase, Run
from engine.core.pool.window import PATIENCE_S, Windows
from engine.core.task.limits import Limits
from engine.core.task.outcome import Cause, Outcome
from engine.core.task.policy import RunPolicy
from engine.core.task.priority import TaskPriority
from engine.core.tree.restart import RestartBudget

LOW, NORMAL, HIGH, URGENT = map(int, TaskPriority)
FRESH_S, LATER_S = PATIENCE_S / 2, 2 * PATIENCE_S


class Pool:
    """Workers that are up, at the time `now_s`; `weights` are bytes by slot."""

    def __init__(self, workers: int = 2, tasks_max: int = 0, limits: PreemptionLimits | None = None) -> None:
        self.now_s, self.weights = 100.0, dict[int, int]()
        self.core = Dispatch(workers, RestartBudget(5, 30.0), Windows(1), Timing(), lambda: 0.5, tasks_max, None,
                             limits or PreemptionLimits(2, 100, 50.0), lambda slot: self.weights.get(slot, 1))
        self.core.start(self.now_s)
        for index in range(workers):
            self.core.booted(index, 100 + index, self.now_s)
        self.tokens = 0
        self.core.actions.clear()

    def claim(self, *priorities: int, after_s: float = LATER_S, **policy: Any) -> list[Run]:
        """One after the other, a millisecond apart."""
        runs = []
        for priority in priorities:
            if runs:
                self.pass_time(0.001)
            self.tokens += 1
            runs.append(Run(b"%019d" % self.tokens, 1, 0, 0, "t", "q", RunPolicy(**policy), b"", self.tokens,
                            priority=priority))
            self.core.claimed(runs[-1:], self.now_s)
        self.pass_time(after_s)
        return runs

    def pass_time(self, seconds: float) -> None:
        self.now_s += seconds
        self.core.tick(self.now_s)

    def reply(self, run: Run, word: bytes = b"C") -> None:
        slot = next(slot for slot in self.core.slots if run in slot.runs)
        self.core.replied(slot.index, run.token, word, 1.0, b"{}", self.now_s)
        self.core.fill(self.now_s)

    def boot(self) -> None:
        for slot in list(self.core.slots):
            if slot.phase is Phase.BOOTING:
                self.core.booted(slot.index, 100 + slot.index, self.now_s)

    def exit(self, index: int) -> None:
        self.core.exited(index, lambda run: Outcome.killed(run.number, "SIGKILL"), [], self.now_s)

    def phases(self) -> list[tuple[Phase, bool]]:
        return [(slot.phase, slot.counts_toward_size) for slot in self.core.slots]

    def did(self, kind: type[Any]) -> list[Any]:
        found = [action for action in self.core.actions if type(action) is kind]
        self.core.actions.clear()
        return found

    def suspended(self) -> list[Run]:
        return [slot.runs[0] for slot in self.core.preemption.suspended()]

    def room(self) -> Room:
        return self.core.room(self.now_s)


@pytest.fixture
def pool() -> Pool:
    return Pool()


def test_a_run_is_suspended_and_resumed_when_a_worker_is_free(pool: Pool) -> None:
    first, second = pool.claim(LOW, LOW)
    assert pool.room() == Room(2, True, 0, Preempt.NOW)
    (urgent,) = pool.claim(URGENT)
    assert pool.did(Suspend) == [Suspend(1, second)]
    assert pool.phases() == [(Phase.UP, True), (Phase.SUSPENDED, False), (Phase.BOOTING, True)]
    pool.boot()
    assert pool.did(Send) == [Send(2, urgent)]
    pool.pass_time(5.0)
    pool.reply(urgent)
    assert pool.phases() == [(Phase.UP, True), (Phase.UP, True), (Phase.STANDBY, False)]
    assert pool.did(Resume) == [Resume(1, second, pytest.approx(5.0 + LATER_S))]
    assert second.suspended_s == pytest.approx(5.0 + LATER_S)
    assert not pool.core.preemption.is_active
    pool.claim(URGENT)
    assert pool.did(Spawn) == [], "there is one that stands by"
    assert pool.suspended() == [first], "the one that was suspended the least is suspended first"
    assert pool.core.preemption.suspended_count == 2


@pytest.mark.parametrize(("runs", "victim"), [
    ((LOW, NORMAL), 0), ((HIGH, NORMAL), 1), ((NORMAL, NORMAL), 1), ((HIGH, URGENT), 0), ((URGENT, URGENT), None)])
def test_the_lowest_is_suspended_and_never_an_urgent_one(pool: Pool, runs: tuple[int, int], victim: int | None) -> None:
    busy = pool.claim(*runs)
    pool.claim(URGENT)
    assert pool.suspended() == ([] if victim is None else [busy[victim]])


def test_only_urgent_ones_are_made_way_for(pool: Pool) -> None:
    pool.claim(LOW, LOW)
    pool.claim(HIGH)
    assert pool.suspended() == []


def test_nobody_is_asked_for_more_while_there_is_room(pool: Pool) -> None:
    pool.claim(LOW)
    assert pool.room() == Room(1, True, 1, Preempt.WHEN_FULL)
    pool.claim(URGENT)
    assert pool.suspended() == []


def test_a_pool_that_makes_no_way_says_so() -> None:
    pool = Pool(limits=PreemptionLimits())
    assert pool.room().preempt is Preempt.NEVER
    pool.claim(LOW, LOW)
    assert pool.room() == Room(0, False, 0, Preempt.NEVER)
    pool.claim(URGENT)
    assert pool.suspended() == []


def test_nothing_is_awaited_of_runs_that_are_over(pool: Pool) -> None:
    """A moment that is past would have the supervisor look again and again while Redis is away."""
    run, _ = pool.claim(LOW, LOW, after_s=FRESH_S)
    pool.room()
    pool.reply(run)
    pool.room()
    assert pool.core.preemption.ripe_s == NEVER


def test_what_has_only_begun_may_soon_be_over(pool: Pool) -> None:
    pool.claim(LOW, LOW, after_s=FRESH_S)
    assert pool.room() == Room(0, False, 0, Preempt.NOW)
    assert pool.core.preemption.ripe_s == pytest.approx(100.001 + PATIENCE_S)
    pool.claim(URGENT, after_s=0.0)
    assert pool.suspended() == []
    pool.pass_time(PATIENCE_S)
    pool.core.fill(pool.now_s)
    assert len(pool.suspended()) == 1


@pytest.mark.parametrize("phase", [Phase.BOOTING, Phase.DYING])
def test_a_place_that_is_about_to_be_free_is_waited_for(pool: Pool, phase: Phase) -> None:
    pool.claim(LOW, LOW)
    pool.core.replace(0, pool.now_s, at_once=True)
    if phase is Phase.BOOTING:
        pool.exit(0)
    assert pool.core.slots[0].phase is phase
    pool.claim(URGENT)
    assert pool.suspended() == []


@pytest.mark.parametrize("spoil", ["preemptible", "cancelled", "interrupted", "leaving"])
def test_what_cannot_be_suspended(spoil: str) -> None:
    pool = Pool(1)
    soft_timeout_s = FRESH_S if spoil == "interrupted" else 0
    (run,) = pool.claim(LOW, preemptible=spoil != "preemptible", soft_timeout_s=soft_timeout_s)
    if spoil == "cancelled":
        pool.core.cancel(run.task_id, "no longer wanted", pool.now_s)
    elif spoil == "leaving":
        pool.core.replace(0, pool.now_s)
    assert pool.room().preempt is Preempt.NEVER
    pool.claim(URGENT, after_s=0.0)
    assert pool.suspended() == []
    pool.pass_time(2 * BACKLOG_S_MAX)
    assert [settle.verdict.move for settle in pool.did(Settle)] == ["release"], "so that another pool may have it"


def test_no_more_than_so_many_are_suspended() -> None:
    pool = Pool(3, limits=PreemptionLimits(1))
    pool.claim(LOW, LOW, LOW)
    pool.claim(URGENT)
    pool.boot()
    pool.pass_time(LATER_S)
    assert pool.room() == Room(0, False, 0, Preempt.NEVER)
    pool.claim(URGENT)
    assert len(pool.suspended()) == 1


def test_they_hold_no_more_than_so_much(pool: Pool) -> None:
    small, large = pool.claim(LOW, LOW)
    pool.weights = {0: 60, 1: 101}
    pool.claim(URGENT)
    assert pool.suspended() == [small], "though the other was the first choice"
    pool.boot()
    pool.pass_time(LATER_S)
    pool.weights[1] = 41
    pool.claim(URGENT)
    assert pool.suspended() == [small]
    assert pool.room().runs == 0
    pool.weights[1] = 40
    pool.pass_time(REFUSED_PAUSE_S)
    pool.claim(URGENT)
    assert pool.suspended() == [small, large]


def test_without_a_bound_nobody_is_weighed() -> None:
    pool = Pool(limits=PreemptionLimits(1, 0))
    pool.weights = {0: 1 << 40, 1: 1 << 40}
    pool.claim(LOW, LOW)
    pool.claim(URGENT)
    assert len(pool.suspended()) == 1


def test_what_was_suspended_for_long_goes_first_and_is_not_suspended_again() -> None:
    pool = Pool(1, limits=PreemptionLimits(1, 0, 50.0))
    (low,) = pool.claim(LOW)
    (first,) = pool.claim(URGENT)
    pool.boot()
    pool.pass_time(60.0)
    assert pool.room() == Room(0, False, 0, Preempt.NEVER)
    pool.claim(URGENT, after_s=0.0)
    pool.reply(first)
    assert pool.suspended() == []
    assert pool.core.slots[0].runs[0] is low
    assert pool.room().preempt is Preempt.NEVER


def test_the_one_of_the_highest_priority_goes_on_first(pool: Pool) -> None:
    low, normal = pool.claim(LOW, NORMAL)
    urgent = pool.claim(URGENT, URGENT)
    pool.boot()
    pool.pass_time(LATER_S)
    pool.core.fill(pool.now_s)
    pool.boot()
    assert pool.suspended() == [low, normal]
    pool.reply(urgent[0])
    assert pool.suspended() == [low]
    pool.reply(urgent[1])
    assert pool.suspended() == []


def test_its_deadlines_move() -> None:
    pool = Pool(1)
    (low,) = pool.claim(LOW, timeout_s=5.0)
    (urgent,) = pool.claim(URGENT, timeout_s=0)
    pool.boot()
    pool.pass_time(20.0)
    assert pool.did(Kill) == []
    slot = pool.core.slots[0]
    assert (slot.running_s(pool.now_s), slot.suspended_s(pool.now_s)) == pytest.approx((LATER_S, 20.0 + LATER_S))
    pool.reply(urgent)
    pool.pass_time(5.0 - 2 * LATER_S)
    assert pool.did(Kill) == []
    pool.pass_time(2 * LATER_S)
    assert pool.did(Kill) == [Kill(0)]
    assert (slot.kill_cause, low.suspended_s) == (Cause.TIMEOUT, pytest.approx(20.0 + LATER_S))


def test_one_that_is_cancelled_goes_on_beside_the_others_until_it_has_ended(pool: Pool) -> None:
    _, low = pool.claim(LOW, LOW)
    pool.claim(URGENT)
    pool.boot()
    pool.core.actions.clear()
    pool.core.cancel(low.task_id, "no longer wanted", pool.now_s)
    assert pool.core.actions == [Resume(1, low, pytest.approx(LATER_S)), Interrupt(1, low.token, cancel=True)]
    assert pool.phases() == [(Phase.UP, True), (Phase.UP, False), (Phase.UP, True)]
    assert pool.room().runs == 0
    pool.reply(low, b"I")
    assert pool.phases()[1] == (Phase.QUITTING, False)
    pool.exit(1)
    assert pool.phases()[1] == (Phase.DOWN, False)


def test_one_that_dies_or_passes_a_limit_is_charged_as_ever(pool: Pool) -> None:
    limits = Limits(memory_bytes=100)
    _, low = pool.claim(LOW, LOW, limits=limits)
    pool.claim(URGENT)
    pool.core.exceeded(1, limits, Cause.OUT_OF_MEMORY, "too much")
    assert pool.did(Kill) == [Kill(1)]
    pool.exit(1)
    (settled,) = pool.did(Settle)
    assert (settled.run, settled.outcome.cause, str(settled.verdict.charged_to)) == (low, Cause.OUT_OF_MEMORY, "crash")
    assert pool.phases()[1] == (Phase.DOWN, False)
    assert not pool.core.preemption.is_active


@pytest.mark.parametrize("at_once", [True, False])
def test_a_fresh_worker_is_asked_for(pool: Pool, at_once: bool) -> None:
    _, low = pool.claim(LOW, LOW)
    (urgent,) = pool.claim(URGENT)
    pool.boot()
    pool.core.replace(1, pool.now_s, at_once=at_once)
    if at_once:
        assert pool.did(Kill) == [Kill(1)]
        return
    pool.reply(urgent)
    pool.core.actions.clear()
    pool.reply(low)
    assert pool.did(Quit) == [Quit(1)]
    assert sum(slot.counts_toward_size for slot in pool.core.slots) == 2


def test_one_had_answered_before_it_was_suspended(pool: Pool) -> None:
    _, low = pool.claim(LOW, LOW)
    pool.claim(URGENT)
    pool.core.actions.clear()
    pool.reply(low)
    assert pool.did(Resume) == [Resume(1, None, 0.0)]
    assert pool.phases()[1] == (Phase.STANDBY, False)


def test_the_reserve_is_let_go_when_nobody_wants_it(pool: Pool) -> None:
    pool.claim(LOW, LOW, timeout_s=0)
    (urgent,) = pool.claim(URGENT)
    pool.boot()
    pool.reply(urgent)
    pool.core.actions.clear()
    pool.pass_time(STANDBY_S)
    assert pool.did(Quit) == [Quit(2)]


def test_there_is_one_in_reserve_and_no_more(pool: Pool) -> None:
    low = pool.claim(LOW, LOW)
    urgent = pool.claim(URGENT, URGENT)
    pool.core.fill(pool.now_s)
    pool.boot()
    pool.pass_time(LATER_S)
    pool.core.fill(pool.now_s)
    pool.boot()
    assert pool.suspended() == low
    for run in urgent:
        pool.reply(run)
    assert sorted(phase.value for phase, counts in pool.phases() if not counts) == ["quitting", "standby"]


@pytest.mark.parametrize("is_down", [False, True])
def test_a_place_whose_worker_is_not_there_yet_is_given_back_too(pool: Pool, is_down: bool) -> None:
    pool.claim(LOW, LOW)
    (urgent,) = pool.claim(URGENT)
    assert pool.phases()[2] == (Phase.BOOTING, True)
    if is_down:  # twice: the second death is paused for
        for _ in range(2):
            pool.exit(2)
            pool.core.tick(pool.now_s)
    pool.core.cancel(urgent.task_id, "no longer wanted", pool.now_s)
    pool.core.fill(pool.now_s)
    assert pool.suspended() == []
    assert pool.phases()[2] == (Phase.DOWN if is_down else Phase.BOOTING, False)
    pool.boot()
    pool.pass_time(1.0)
    assert pool.phases()[2] == (Phase.DOWN if is_down else Phase.STANDBY, False)


def test_a_place_whose_worker_is_being_killed_is_not_given_back_before_it_is_gone(pool: Pool) -> None:
    pool.claim(LOW, LOW)
    (urgent,) = pool.claim(URGENT)
    pool.boot()
    pool.core.replace(2, pool.now_s, at_once=True)
    pool.core.taken_back(2, [urgent.token], pool.now_s)  # it had not even read it
    assert pool.phases()[2] == (Phase.DYING, True)
    assert len(pool.suspended()) == 1
    pool.exit(2)
    assert len(pool.suspended()) == 1
    pool.core.cancel(urgent.task_id, "no longer wanted", pool.now_s)
    pool.core.fill(pool.now_s)
    assert pool.suspended() == []


def test_replacements_neither_get_lost_nor_left_over() -> None:
    """A nice run has a replacement, since its worker exits after it. If it is suspended, the urgent run gets that."""
    pool = Pool(1)
    (low,) = pool.claim(LOW, limits=Limits(nice=5))
    assert pool.phases() == [(Phase.UP, True), (Phase.BOOTING, False)]
    pool.boot()
    (urgent,) = pool.claim(URGENT, limits=Limits(nice=5))
    assert pool.phases() == [(Phase.SUSPENDED, False), (Phase.UP, True), (Phase.BOOTING, False)]
    pool.boot()
    pool.reply(urgent)
    assert pool.phases()[0] == (Phase.UP, True)
    assert pool.core.slots[0].runs[0] is low
    assert sum(counts for _, counts in pool.phases()) == 1


def test_a_worker_with_a_replacement_goes_on_standby_and_the_replacement_goes() -> None:
    pool = Pool(1, tasks_max=3)
    pool.core.windows.mean_s = 1.0
    (low,) = pool.claim(LOW)
    (urgent,) = pool.claim(URGENT)
    pool.boot()
    pool.reply(urgent)
    (urgent,) = pool.claim(URGENT)
    pool.reply(urgent)  # its second of three: a replacement is on its way
    assert pool.core.slots[0].runs[0] is low
    assert sorted(phase.value for phase, counts in pool.phases() if not counts) in (["dying", "standby"], ["standby"])
    assert all(slot.phase is not Phase.BOOTING for slot in pool.core.slots)


def test_a_pool_that_drains_lets_them_go_on_at_once(pool: Pool) -> None:
    _, low = pool.claim(LOW, LOW)
    pool.claim(URGENT)
    pool.boot()
    pool.core.actions.clear()
    pool.core.drain(pool.now_s, 30.0)
    assert pool.did(Resume) == [Resume(1, low, pytest.approx(LATER_S))]
    pool.reply(low)
    assert pool.phases()[1] == (Phase.QUITTING, False)


def test_a_handler_says_that_its_runs_are_not_suspended() -> None:
    assert RunPolicy().with_handler({"name": "x"}).preemptible
    assert not RunPolicy().with_handler({"name": "x", "preemptible": False}).preemptible
