"""A supervisor that comes late ends its runs earlier, within bounds."""

import pytest

from engine.core.pool.lease_fence import FenceMargin
from engine.core.pool.room import Room
from engine.services.pool.step_pipeline import BEAT_S
from tests.unit.services.pool.test_step_pipeline import Bench, bench  # noqa: F401

LEASE_S = 15.0
ROOM = Room(0, is_urgent=False, idle_workers=0)


def test_one_that_comes_in_time_has_the_least_margin() -> None:
    margin = FenceMargin(2.0, LEASE_S)
    for _ in range(100):
        margin.came(0.0)
    assert margin.seconds == 2.0


def test_the_margin_covers_what_was_seen_and_forgets_it_slowly() -> None:
    margin = FenceMargin(2.0, LEASE_S)
    margin.came(1.5)
    assert margin.seconds == 5.0
    for _ in range(30):
        margin.came(0.0)
    assert 3.0 < margin.seconds < 4.5
    for _ in range(300):
        margin.came(0.0)
    assert margin.seconds == pytest.approx(2.0, abs=0.1)


def test_half_of_the_lease_is_kept_for_a_link_that_is_cut() -> None:
    margin = FenceMargin(2.0, LEASE_S)
    margin.came(60.0)
    assert margin.seconds == LEASE_S / 2


def test_turns_that_come_late_move_the_fence(bench: Bench) -> None:  # noqa: F811
    bench.answer()
    assert bench.send(ROOM) == 0, "it waits for the beat"
    before_s = bench.pipeline._fence_s()
    bench.now_s += BEAT_S + 1.0  # it was to come a second ago
    assert bench.send(ROOM) == 1
    assert bench.pipeline._fence_s() == pytest.approx(before_s - 2.0, abs=0.1)


def test_a_redis_that_answers_late_does_not_move_it(bench: Bench) -> None:  # noqa: F811
    bench.now_s += 10.0
    bench.answer()
    bench.send()
    assert bench.pipeline.margin.seconds == bench.pipeline.terms.fence_margin_s
