"""When a pool sends its steps, what each carries and asks for, and what becomes of two under way at once."""

import pytest

from engine.adapters.clock import RedisClock
from engine.core.pool.room import Room
from engine.core.task.policy import RunPolicy
from engine.ports.supervisor_broker import Parted, Refused, Settlement, Stepped
from engine.services.pool.pool_terms import PoolTerms
from engine.services.pool.run_logger import RunLogger
from engine.services.pool.step_pipeline import BEAT_S, PACE_S, QUIET_BEAT_S, StepPipeline
from tests.unit.services.pool.pool_harness import NotedBroker

PLENTY = Room(100, is_urgent=True, idle_workers=2)
SETTLE_MAX = 8


class Bench:
    """Steps of eight ends and twenty claims at most; each `send` is a pace after the last."""

    def __init__(self) -> None:
        self.broker, self.now_s, self.ends = NotedBroker(), 100.0, 0
        terms = PoolTerms("sup", "default", (), RunPolicy(), settle_max=SETTLE_MAX, claim_max=20)
        self.pipeline = StepPipeline(terms, self.broker, RedisClock(), RunLogger(lambda: self.now_s))

    def end(self, count: int) -> list[Settlement]:
        ends = [Settlement(b"%019d" % (self.ends + n), 1, "complete nobody", 0, b"{}") for n in range(count)]
        self.ends += count
        self.pipeline.outbox.extend(ends)
        return ends

    def send(self, room: Room = PLENTY, runs: int = 0) -> int:
        """Let it send a step if it wants to; how many are under way."""
        self.now_s += PACE_S
        self.pipeline.send_step(room, runs, lambda: b"", self.now_s)
        return len(self.broker.steps)

    def answer(self, *, held: int = 1) -> None:
        self.broker.steps.popleft()
        self.pipeline.stepped(Stepped([], [], False, [], held, self.now_s), self.now_s)


@pytest.fixture
def bench() -> Bench:
    bench = Bench()
    assert bench.send() == 1
    return bench


def test_a_second_step_goes_out_when_half_of_what_it_can_carry_waits_and_no_third(bench: Bench) -> None:
    bench.end(SETTLE_MAX // 2 - 1)
    assert bench.send() == 1
    bench.end(1)
    assert bench.send() == 2
    bench.end(SETTLE_MAX)
    assert bench.send() == 2
    bench.answer()
    assert bench.send() == 2


def test_what_the_first_asked_for_is_not_asked_for_again(bench: Bench) -> None:
    bench.end(SETTLE_MAX)
    bench.send(Room(30, is_urgent=True, idle_workers=2), runs=5)
    assert [want for want, _, _ in bench.broker.wants] == [20, 10]
    assert bench.broker.wants[1][2] == 5 + SETTLE_MAX + 20, "it may hold what the first step has claimed"


def test_a_single_step_is_awaited_before_both_beliefs_are_brought_together(bench: Bench) -> None:
    bench.end(SETTLE_MAX)
    assert bench.send() == 2
    bench.answer()
    bench.pipeline.is_single = True
    bench.end(SETTLE_MAX)
    assert bench.send() == 1
    bench.answer()
    assert bench.send() == 1
    bench.end(SETTLE_MAX)
    assert bench.send() == 2, "once nothing was under way, there may be two again"


def test_what_two_steps_carried_comes_back_in_its_order_when_the_link_breaks(bench: Bench) -> None:
    first = bench.end(SETTLE_MAX)
    bench.send()
    second = bench.end(2)
    bench.pipeline.parted(Parted("gone", first), bench.now_s)
    assert list(bench.pipeline.outbox) == first + second
    assert bench.pipeline.unsettled == len(bench.pipeline.outbox)
    assert not bench.pipeline.is_under_way


def test_a_step_that_is_refused_leaves_the_other_under_way(bench: Bench) -> None:
    carried = bench.end(SETTLE_MAX)
    bench.send()
    bench.pipeline.refused(Refused("OOM", []), bench.now_s)
    assert bench.pipeline.is_under_way
    assert bench.pipeline.unsettled == len(carried)
    bench.pipeline.refused(Refused("OOM", carried), bench.now_s)
    assert list(bench.pipeline.outbox) == carried
    assert not bench.pipeline.is_under_way


def test_a_redis_that_refuses_is_asked_once_a_beat_whatever_rings_and_ends(bench: Bench) -> None:
    bench.pipeline.refused(Refused("MISCONF", []), bench.now_s)
    bench.broker.steps.clear()
    refused_s = bench.now_s
    bench.end(3)
    while bench.now_s < refused_s + BEAT_S - 2 * PACE_S:
        bench.pipeline.wake(is_due=True)
        assert bench.pipeline.next_deadline_s() >= refused_s + BEAT_S
        assert bench.send() == 0
    assert [bench.send(), bench.send()][-1] == 1
    bench.answer()
    bench.end(1)
    assert bench.send() == 1, "it takes them again"


def test_it_counts_what_ends_from_one_step_to_the_answer_of_the_next(bench: Bench) -> None:
    bench.end(5)
    bench.send()
    bench.end(3)
    bench.answer()
    assert bench.pipeline.ended_meanwhile == 8
    bench.answer()
    assert bench.pipeline.ended_meanwhile == 8
    assert bench.pipeline.carried == 5
    bench.send()
    bench.answer()
    assert bench.pipeline.ended_meanwhile == 3


def test_ends_wait_for_company_while_every_worker_has_enough(bench: Bench) -> None:
    bench.answer()
    enough = Room(1, is_urgent=False, idle_workers=0)
    bench.end(1)
    bench.now_s -= PACE_S / 2
    assert bench.send(enough) == 0
    assert bench.send(enough) == 1


@pytest.mark.parametrize(("held", "beat_s"), [(1, BEAT_S), (0, QUIET_BEAT_S)])
def test_with_nothing_to_tell_or_to_ask_there_is_the_beat(bench: Bench, held: int, beat_s: float) -> None:
    bench.answer(held=held)
    assert bench.send() == 0
    assert bench.pipeline.next_deadline_s() == pytest.approx(bench.now_s - PACE_S + beat_s)
    bench.now_s += beat_s
    assert bench.send() == 1
