"""More or fewer places: which go, which come, and when a pool decides so by itself."""

from typing import Any

import pytest

from engine.core.pool.actions import Quit, Spawn
from engine.core.pool.deadlines import Timing
from engine.core.pool.dispatch import Dispatch
from engine.core.pool.resizing import CPU_SHARE_MAX, IDLE_S, REST_S, WAIT_S, AutoSize, Load, Scale, size_of
from engine.core.pool.slot import Phase, Run
from engine.core.pool.window import Windows
from engine.core.task.limits import Limits
from engine.core.task.policy import RunPolicy
from engine.core.tree.restart import RestartBudget
from engine.ports.supervisor_broker import Parted, Waited
from tests.unit.services.pool.pool_harness import RECORD, PoolHarness

NOW_S = 100.0


def pool(workers: int, *, up: bool = True) -> Dispatch:
    core = Dispatch(workers, RestartBudget(5, 30.0), Windows(1), Timing(), lambda: 0.5)
    core.start(NOW_S)
    for index in range(workers if up else 0):
        core.booted(index, 100 + index, NOW_S)
    core.actions.clear()
    return core


def claim(core: Dispatch, count: int, **policy: Any) -> list[Run]:
    runs = [Run(b"%019d" % n, 1, 0, 0, "t", "q", RunPolicy(**policy), b"", n) for n in range(1, count + 1)]
    core.claimed(runs, NOW_S)
    core.actions.clear()
    return runs


def reply(core: Dispatch, run: Run) -> None:
    slot = next(slot for slot in core.slots if run in slot.runs)
    core.replied(slot.index, run.token, b"C", 1.0, b"{}", NOW_S)
    core.fill(NOW_S)


def phases(core: Dispatch) -> list[tuple[Phase, bool]]:
    return [(slot.phase, slot.counts_toward_size) for slot in core.slots]


def test_who_has_nothing_to_do_goes_first_and_at_once() -> None:
    core = pool(3)
    claim(core, 1)
    core.resize(1, NOW_S)
    assert phases(core) == [(Phase.UP, True), (Phase.QUITTING, False), (Phase.QUITTING, False)]
    assert set(core.actions) == {Quit(1), Quit(2)}


def test_who_is_at_work_finishes_first() -> None:
    core = pool(2)
    first, second = claim(core, 2)
    core.resize(1, NOW_S)
    assert phases(core) == [(Phase.UP, True), (Phase.UP, False)]
    assert core.room(NOW_S).runs == 0
    reply(core, second)
    assert phases(core)[1] == (Phase.QUITTING, False)
    reply(core, first)
    assert core.room(NOW_S).runs == 1


def test_it_stays_if_there_is_a_place_again_before_it_has_finished() -> None:
    core = pool(2)
    _, second = claim(core, 2)
    core.resize(1, NOW_S)
    core.resize(2, NOW_S)
    assert phases(core) == [(Phase.UP, True), (Phase.UP, True)]
    assert Spawn not in map(type, core.actions)
    core.actions.clear()
    reply(core, second)
    assert [type(action) for action in core.actions if type(action) is Spawn] == [Spawn], "replaced all the same"
    assert size_of(core.slots) == 2


def test_one_that_is_to_be_cancelled_does_not() -> None:
    core = pool(2)
    _, second = claim(core, 2)
    core.resize(1, NOW_S)
    core.cancel(second.task_id, "no longer wanted", NOW_S)
    core.resize(2, NOW_S)
    assert phases(core) == [(Phase.UP, True), (Phase.UP, False), (Phase.BOOTING, True)]


def test_workers_that_boot_or_are_not_there_go_before_those_that_are() -> None:
    core = pool(3, up=False)
    core.booted(0, 100, NOW_S)
    core.exited(1, lambda run: None, [], NOW_S)  # type: ignore[arg-type,return-value]
    assert core.slots[1].phase is Phase.DOWN
    core.resize(1, NOW_S)
    assert phases(core) == [(Phase.UP, True), (Phase.DOWN, False), (Phase.DYING, False)]
    core.tick(NOW_S + 10)
    assert core.slots[1].phase is Phase.DOWN, "its restart was called off"


def test_replacements_of_those_that_go_go_too() -> None:
    core = pool(2)
    claim(core, 2, limits=Limits(nice=5))
    assert [phase for phase, _ in phases(core)].count(Phase.BOOTING) == 2
    core.resize(1, NOW_S)
    assert [phase for phase, _ in phases(core)].count(Phase.BOOTING) == 1
    assert size_of(core.slots) == 1


def test_more_places_get_workers() -> None:
    core = pool(1)
    core.resize(3, NOW_S)
    assert phases(core) == [(Phase.UP, True), (Phase.BOOTING, True), (Phase.BOOTING, True)]
    assert core.actions == [Spawn(1), Spawn(2)]


def test_the_bounds_hold() -> None:
    scale = Scale(2, 4)
    assert [scale.bounded(size) for size in (1, 2, 3, 4, 5)] == [2, 2, 3, 4, 4]
    assert AutoSize(scale).size(Load(1, 0, 0.0, 0.0), NOW_S) == 2
    assert AutoSize(scale).size(Load(9, 0, 0.0, 1.0), NOW_S) == 4


@pytest.mark.parametrize(("load", "size"), [
    (Load(4, 0, WAIT_S, 0.5), 5),
    (Load(8, 0, WAIT_S, 0.5), 10),
    (Load(4, 0, WAIT_S - 0.1, 0.5), 4),
    (Load(4, 1, WAIT_S, 0.5), 4),
    (Load(4, 0, WAIT_S, CPU_SHARE_MAX), 4)])
def test_it_grows_while_tasks_wait_and_there_is_processor_time(load: Load, size: int) -> None:
    assert AutoSize(Scale(1, 16)).size(load, NOW_S) == size


def test_it_shrinks_when_somebody_was_idle_for_long_without_a_break() -> None:
    auto = AutoSize(Scale(1, 16))
    assert auto.size(Load(4, 1, 0.0, 0.1), NOW_S) == 4
    assert auto.size(Load(4, 0, 0.0, 0.1), NOW_S + IDLE_S / 2) == 4
    assert auto.size(Load(4, 2, 0.0, 0.1), NOW_S + IDLE_S) == 4
    assert auto.size(Load(4, 1, 0.0, 0.1), NOW_S + 2 * IDLE_S - 0.1) == 4
    assert auto.size(Load(4, 1, 0.0, 0.1), NOW_S + 2 * IDLE_S) == 3
    assert auto.size(Load(3, 1, 0.0, 0.1), NOW_S + 2 * IDLE_S + REST_S) == 3, "it counts anew"


def test_it_rests_after_a_change() -> None:
    auto = AutoSize(Scale(1, 16))
    assert auto.size(Load(2, 0, 5.0, 0.1), NOW_S) == 3
    assert auto.size(Load(3, 0, 5.0, 0.1), NOW_S + REST_S - 0.1) == 3
    assert auto.size(Load(3, 0, 5.0, 0.1), NOW_S + REST_S) == 4


# -- in the pool --------------------------------------------------------------------------------------------------


@pytest.fixture
def harness() -> PoolHarness:
    return PoolHarness()


def workers(harness: PoolHarness) -> int:
    return size_of(harness.pool.core.slots)


def test_a_pool_does_as_it_is_told(harness: PoolHarness) -> None:
    harness.pool.scale(5)
    harness.turn()
    assert workers(harness) == 5
    assert len(harness.host.verbs("spawn")) == 5
    harness.pool.scale("some")
    harness.turn()
    assert workers(harness) == 5
    assert harness.pool.sizing.orders == 2


def test_the_automatic_mode_asks_once_a_second_and_follows(harness: PoolHarness) -> None:
    asked = []
    harness.broker.ask_waits = lambda: asked.append(harness.now_s)
    harness.pool.scale("auto")
    harness.turn()
    harness.turn(after_s=1.5)
    assert len(asked) == 1, "the answer is awaited"
    harness.broker.happened = [Waited(9.0)]
    harness.turn()
    assert workers(harness) == 2, "two are idle"
    harness.answer(*[part for n in (1, 2) for part in (b"%019d" % n, RECORD, b"1 0 0")])
    harness.broker.happened = [Waited(9.0)]
    harness.turn(after_s=1.0)
    assert workers(harness) == 3
    harness.pool.scale("auto")
    harness.turn()
    harness.pool.scale(2)
    harness.broker.happened = [Waited(9.0)]
    harness.turn(after_s=10.0)
    assert workers(harness) == 2
    asked.clear()
    harness.broker.happened = [Waited(9.0)]
    harness.turn(after_s=10.0)
    assert (workers(harness), asked) == (2, []), "from now on it has as many as it was told"


def test_what_redis_did_not_answer_is_asked_again(harness: PoolHarness) -> None:
    asked = []
    harness.broker.ask_waits = lambda: asked.append(harness.now_s)
    harness.pool.scale("auto")
    harness.turn()
    harness.turn()
    harness.broker.happened = [Parted("gone", [])]
    harness.turn(after_s=2.0)
    assert len(asked) == 2


def test_a_pool_that_drains_keeps_its_size(harness: PoolHarness) -> None:
    harness.pool.drain()
    harness.pool.scale(5)
    harness.turn()
    assert workers(harness) == 2
    harness.pool.scale("auto")
    harness.turn()
    harness.broker.happened = [Waited(9.0)]
    harness.turn()
    assert workers(harness) == 2


def test_one_whose_replacement_is_ready_leaves_as_soon_as_it_is_to_be_replaced() -> None:
    core = pool(1)
    (run,) = claim(core, 1, limits=Limits(nice=5))
    core.booted(1, 101, NOW_S)
    core.replace(0, NOW_S)
    reply(core, run)
    assert phases(core) == [(Phase.QUITTING, False), (Phase.UP, True)]
