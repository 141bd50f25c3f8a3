"""What becomes of a run whose supervisor fell silent."""

from typing import Any

import pytest

from engine.core.task.lifecycle import Move
from engine.core.task.lost_run import RESCUES_MAX, of_lost_run
from engine.core.task.outcome import Cause


@pytest.mark.parametrize(("changed", "move", "cause"), [
    ({}, Move.RELEASE, Cause.LEASE_LOST),
    ({"rescues": RESCUES_MAX - 1}, Move.RELEASE, Cause.LEASE_LOST),
    ({"rescues": RESCUES_MAX}, Move.FAIL, Cause.POISON),
    ({"rescues": 2, "rescues_max": 3}, Move.RELEASE, Cause.LEASE_LOST),
    ({"rescues": 3, "rescues_max": 3}, Move.FAIL, Cause.POISON),
    ({"rescues_max": 0}, Move.FAIL, Cause.POISON),
    ({"max_deliveries": 4}, Move.RELEASE, Cause.LEASE_LOST),
    ({"max_deliveries": 3}, Move.FAIL, Cause.LEASE_LOST),
    ({"max_deliveries": 1, "rescues": 9}, Move.FAIL, Cause.LEASE_LOST),
    ({"cancel_reason": "not wanted", "max_deliveries": 1, "rescues": 9}, Move.CANCEL, Cause.CANCELLED),
])
def test_fate(changed: dict[str, Any], move: Move, cause: Cause) -> None:
    known: dict[str, Any] = {"rescues": 0, "max_deliveries": None, "cancel_reason": None, **changed}
    fate = of_lost_run(3, "pool-1", now_ms=5, **known)
    assert (fate.move, fate.outcome.cause, fate.outcome.run, fate.outcome.ended_ms) == (move, cause, 3, 5)
    assert fate.outcome.worker == "pool-1"
    assert "not wanted" in fate.outcome.message or "pool-1" in fate.outcome.message
