"""A worker that the user's own hook does not let start is tried again without end, with pauses."""

import logging
from dataclasses import replace

import pytest

from engine.core.pool.actions import Halt, Spawn
from engine.core.pool.deadlines import Timing
from engine.core.pool.dispatch import Dispatch
from engine.core.pool.slot import Phase, Run
from engine.core.pool.window import Windows
from engine.core.task.outcome import Outcome
from engine.core.tree.restart import RestartBudget
from tests.unit.services.pool.pool_harness import PoolHarness


def death(run: Run) -> Outcome:
    return Outcome.exited(run.number, 1)


def pool(slots: int = 1, tasks_max: int = 0) -> Dispatch:
    core = Dispatch(slots, RestartBudget(2, 30.0), Windows(1), Timing(), lambda: 0.5, tasks_max)
    core.start(0.0)
    core.actions.clear()
    return core


def fail(core: Dispatch, now_s: float, index: int = 0) -> None:
    core.start_failed(index)
    core.exited(index, death, [], now_s)


def test_it_is_tried_again_after_pauses_that_grow_and_the_pool_never_gives_up() -> None:
    core, now_s, pauses_s = pool(), 0.0, []
    for _ in range(12):
        fail(core, now_s)
        assert core.actions == []
        pauses_s.append(core.slots[0].deadline_s - now_s)
        now_s = core.slots[0].deadline_s
        core.tick(now_s)
        assert core.actions == [Spawn(0)]
        core.actions.clear()
    assert pauses_s == sorted(pauses_s)
    assert 1.0 < pauses_s[-1] <= 5.0


def test_no_task_is_claimed_for_it() -> None:
    core = pool()
    fail(core, 0.0)
    assert core.room(0.0).runs == 0


def test_other_deaths_of_starting_workers_still_use_the_restart_budget_up() -> None:
    core, now_s = pool(), 0.0
    for _ in range(5):
        fail(core, now_s)
        now_s = core.slots[0].deadline_s
        core.tick(now_s)
    core.actions.clear()
    for _ in range(3):
        core.exited(0, death, [], now_s)
        now_s = core.slots[0].deadline_s
        core.tick(now_s)
    assert any(isinstance(action, Halt) for action in core.actions)


def test_a_worker_whose_successor_cannot_start_leaves_all_the_same() -> None:
    core = pool()
    core.booted(0, 100, 0.0)
    core.replace(0, 1.0)
    replacement = next(slot for slot in core.slots if not slot.counts_toward_size and slot.phase is Phase.BOOTING)
    fail(core, 1.1, replacement.index)
    assert core.slots[0].phase is Phase.QUITTING


def test_a_successor_that_cannot_start_does_not_make_its_worker_leave_before_its_time() -> None:
    core = Dispatch(1, RestartBudget(2, 30.0), Windows(1), Timing(), lambda: 0.5, 5)
    core.start(0.0)
    core.booted(0, 100, 0.0)
    core.slots[0].retire_at = 0
    core.workers.near_retirement(core.slots[0], b"", 0.0)
    replacement = next(slot for slot in core.slots if not slot.counts_toward_size and slot.phase is Phase.BOOTING)
    fail(core, 1.1, replacement.index)
    assert core.slots[0].phase is Phase.UP


def test_only_a_worker_that_did_not_boot_in_time_is_reported_as_such(caplog: pytest.LogCaptureFixture) -> None:
    """One that a pool does not need any more, since it has shrunk, is killed while it boots as well."""
    harness = PoolHarness()
    harness.pool.scale(3)
    harness.turn()
    harness.pool.scale(2)
    harness.turn()
    with caplog.at_level(logging.INFO, "ganger.execution"):
        end_booting_worker(harness)
        assert slow_starts(caplog) == []
        harness.pool.scale(3)
        harness.turn()
        harness.turn(after_s=Timing().boot_s)
        end_booting_worker(harness)
    (slow,) = slow_starts(caplog)
    assert (slow.levelno, vars(slow)["stacks"]) == (logging.ERROR, "File x")


def end_booting_worker(harness: PoolHarness) -> None:
    assert harness.host.verbs("kill")[-1][1] == 2
    harness.host.happened = [replace(harness.exit(2), post_mortem={"why": "stopped", "stacks": "File x"})]
    harness.turn()


def slow_starts(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if "not started in time" in record.message]
