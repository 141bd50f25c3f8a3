"""A supervisor's children: those that come and go beside the machine of `tests/property`."""

import pytest

from engine.core.tree.restart import RestartBudget
from engine.core.tree.supervision import (
    REFUSED_PAUSE_S,
    REFUSED_PAUSE_S_MAX,
    ChildSpec,
    GiveUp,
    KillChild,
    StartChild,
    StopChild,
    Supervision,
)


def supervisor(*names: str) -> Supervision:
    core = Supervision([ChildSpec(name) for name in names], RestartBudget(1, 30.0))
    assert core.start(0.0) == [StartChild(name) for name in names]
    return core


def test_a_supervisor_gives_up_when_a_child_dies_faster_than_its_budget_allows() -> None:
    core = supervisor("one")
    assert core.exited("one", False, 1.0) == [StartChild("one")]
    (gives_up,) = core.exited("one", False, 2.0)
    assert isinstance(gives_up, GiveUp)
    assert "dies faster than the restart budget allows" in str(gives_up.reason)


def test_a_child_that_is_added_is_started_and_one_that_is_retired_is_forgotten_when_it_is_down() -> None:
    core = supervisor("old")
    assert core.add(ChildSpec("new"), 1.0) == [StartChild("new")]
    assert core.retire("old", 2.0) == [StopChild("old")]
    assert "old" in core.children
    assert core.exited("old", True, 3.0) == []
    assert list(core.children) == ["new"]


def test_a_start_that_the_host_refuses_is_tried_again_and_costs_no_restart() -> None:
    core, now_s = supervisor("one", "two"), 1.0
    assert core.exited("one", False, now_s) == [StartChild("one")]
    for _ in range(50):
        assert core.not_started("one", now_s) == []
        assert core.tick(core.next_deadline_s() - 0.01) == []
        pause_s, now_s = core.next_deadline_s() - now_s, core.next_deadline_s()
        assert 0 < pause_s < REFUSED_PAUSE_S_MAX + 0.1
        assert core.tick(now_s) == [StartChild("one")]
    assert pause_s == pytest.approx(REFUSED_PAUSE_S_MAX), "the pauses grow"
    core.has_started("one")
    assert core.not_started("one", now_s) == []
    assert core.next_deadline_s() == pytest.approx(now_s + REFUSED_PAUSE_S)
    assert core.children["one"].restarts == 1
    core.stop(now_s)
    assert core.exited("two", True, now_s) == [GiveUp(None)], "it is not waited for"


def test_while_the_host_refuses_one_the_others_start() -> None:
    core = supervisor("one")
    core.exited("one", False, 1.0)
    core.not_started("one", 1.0)
    assert core.add(ChildSpec("two"), 1.01) == [StartChild("two")]


def test_a_second_stop_kills() -> None:
    core = supervisor("one", "two")
    assert core.stop(1.0) == [StopChild("two"), StopChild("one")], "in the reverse order of their start"
    assert set(core.stop(2.0)) == {KillChild("one"), KillChild("two")}
    assert core.exited("two", False, 3.0) == []
    assert core.exited("one", False, 3.0) == [GiveUp(None)]
