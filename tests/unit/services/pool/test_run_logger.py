"""What a pool's log says of the runs that end in it."""

import logging
from typing import Any

import pytest

from engine.core.pool.slot import Run
from engine.core.task.lifecycle import Move
from engine.core.task.outcome import Outcome
from engine.core.task.policy import RunPolicy
from engine.core.task.retry import CANCELLED, COMPLETED, RELEASED, ChargedTo, Verdict
from engine.logs import facts_of
from engine.services.pool.run_logger import FIGURES_S, ROWS_PER_S_MAX, RunLogger
from tests.unit.services.pool.pool_harness import RECORD, A, PoolHarness

FAILED = Verdict(Move.FAIL, ChargedTo.ATTEMPT)
OUTCOME = Outcome.killed(1, "SIGSEGV", worker="host.default.1/0", pid=7, wall_s=0.5).encode()


class Told:
    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self.now_s = 1000.0
        self.log, self.run_logger = caplog, RunLogger(lambda: self.now_s)

    def ended(self, verdict: Verdict, outcome: bytes = OUTCOME) -> None:
        run = Run(A, 1, 0, 0, "thumbnail", "images", RECORD, RunPolicy(), 5)
        self.run_logger.ended(run, verdict, outcome)

    @property
    def rows(self) -> list[tuple[str, str, str, dict[str, Any]]]:
        return [(row.name, row.levelname, row.getMessage(), facts_of(row)) for row in self.log.records]


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Told:
    monkeypatch.setattr(logging.getLogger("ganger"), "propagate", True)
    caplog.set_level(logging.INFO, logger="ganger")
    return Told(caplog)


def test_a_failure_is_told_with_its_task_run_worker_and_times(told: Told) -> None:
    told.ended(FAILED)
    [(logger, level, _, facts)] = told.rows
    assert (logger, level) == ("ganger.errors", "WARNING")
    assert facts | {"cause": "killed", "wall_s": 0.5, "worker": "host.default.1/0", "pid": 7, "run": 1,
                    "task_id": A.decode(), "task_type": "thumbnail", "follows": "fail"} == facts
    assert "SIGSEGV" in facts["error"]


def test_what_was_asked_for_is_no_error(told: Told) -> None:
    told.ended(CANCELLED)
    told.ended(RELEASED)
    told.ended(COMPLETED)
    assert [(logger, facts["follows"]) for logger, _, _, facts in told.rows] == [("ganger.execution", "cancel")]


def test_completions_are_told_at_level_debug(told: Told) -> None:
    told.log.set_level(logging.DEBUG, logger="ganger")
    told.ended(COMPLETED, b'{"run":1,"cause":"returned","wall_s":0.25}')
    [(logger, level, _, facts)] = told.rows
    assert (logger, level, facts["wall_s"]) == ("ganger.execution", "DEBUG", 0.25)


@pytest.mark.parametrize("outcome", [b"no json", b"[]", b'{"error":5}'])
def test_an_outcome_that_is_none_is_told_of_all_the_same(told: Told, outcome: bytes) -> None:
    told.ended(FAILED, outcome)
    assert told.rows[0][3]["task_id"] == A.decode()


def test_failures_by_the_thousand_are_counted(told: Told) -> None:
    for _ in range(ROWS_PER_S_MAX + 30):
        told.ended(FAILED)
    told.run_logger.tick(told.now_s)
    assert len(told.rows) == ROWS_PER_S_MAX
    told.now_s += 1
    told.run_logger.tick(told.now_s)
    assert told.rows[-1][3] == {"untold": 30}
    told.ended(FAILED)
    assert len(told.rows) == ROWS_PER_S_MAX + 2


def test_once_a_minute_the_figures(told: Told) -> None:
    told.run_logger.stepped(30, 0.001)
    told.run_logger.stepped(30, 0.003)
    told.run_logger.tick(told.now_s + FIGURES_S - 1)
    assert not told.rows
    told.run_logger.tick(told.now_s + FIGURES_S)
    assert told.rows == [("ganger.performance", "INFO", "figures", {
        "runs": 60, "runs_per_s": 1.0, "steps": 2, "step_ms": 2.0, "slowest_step_ms": 3.0})]
    told.run_logger.tick(told.now_s + 2 * FIGURES_S)
    assert len(told.rows) == 1, "nothing has happened since"


def test_a_pool_tells_of_the_end_of_a_run(told: Told) -> None:
    harness = PoolHarness()
    harness.answer(A, RECORD, b"1 0 0")
    harness.host.happened = [harness.reply(0, b"E", b'{"cause":"raised","error":{"kind":"ValueError","message":"no"}}')]
    harness.turn()
    assert [facts["error"] for logger, _, _, facts in told.rows if logger == "ganger.errors"] == ["ValueError: no"]
