"""A supervisor's children: those that come and go beside the machine of `tests/property`."""

from engine.core.restart import RestartBudget
from engine.core.supervision import ChildSpec, GiveUp, Kill, Start, Stop, Supervision


def supervisor(*names: str) -> Supervision:
    core = Supervision([ChildSpec(name) for name in names], RestartBudget(1, 30.0))
    assert core.start(0.0) == [Start(name) for name in names]
    return core


def test_a_supervisor_gives_up_when_a_child_dies_faster_than_its_budget_allows() -> None:
    core = supervisor("one")
    assert core.exited("one", False, 1.0) == [Start("one")]
    (gives_up,) = core.exited("one", False, 2.0)
    assert isinstance(gives_up, GiveUp)
    assert "dies faster than the restart budget allows" in str(gives_up.reason)


def test_a_child_that_is_added_is_started_and_one_that_is_retired_is_forgotten_when_it_is_down() -> None:
    core = supervisor("old")
    assert core.add(ChildSpec("new"), 1.0) == [Start("new")]
    assert core.retire("old", 2.0) == [Stop("old")]
    assert "old" in core.children
    assert core.exited("old", True, 3.0) == []
    assert list(core.children) == ["new"]


def test_a_second_stop_kills() -> None:
    core = supervisor("one", "two")
    assert core.stop(1.0) == [Stop("two"), Stop("one")], "in the reverse order of their start"
    assert set(core.stop(2.0)) == {Kill("one"), Kill("two")}
    assert core.exited("two", False, 3.0) == []
    assert core.exited("one", False, 3.0) == [GiveUp(None)]
