"""Which supervisors of this host are gone, by the kernel's word."""

from typing import Any

import pytest

from engine.adapters import probe
from engine.services.keeper.neighbours import REFRESH_S, Neighbours

HERE = probe.host_id()
NAMES = ("one", "two")


class Kernel:
    """Processes by pid, with the moment of their birth."""

    def __init__(self) -> None:
        self.born: dict[int, int] = {1: 100, 2: 200}
        self.reports: list[dict[str, Any]] = [
            {"supervisor": "one", "identity": {"host_id": HERE, "pid": 1, "born_at": 100}, "slots": [{"pid": 2}]}]

    def neighbours(self) -> Neighbours:
        return Neighbours(lambda: self.reports, self.born.get)


@pytest.fixture
def kernel() -> Kernel:
    return Kernel()


def test_one_that_lives_is_left_alone(kernel: Kernel) -> None:
    neighbours = kernel.neighbours()
    assert not any(neighbours.gone(float(now_s), NAMES) for now_s in range(20))


def test_one_that_is_gone_is_named_when_that_is_sure_and_until_its_report_is_gone(kernel: Kernel) -> None:
    neighbours = kernel.neighbours()
    assert neighbours.gone(0.0, NAMES) == []
    kernel.born.clear()
    assert neighbours.gone(1.0, NAMES) == []
    assert neighbours.gone(1.4, NAMES) == [], "what it has started may be a moment behind"
    assert neighbours.gone(1.6, NAMES) == ["one"]
    assert neighbours.gone(1.7, NAMES) == ["one"]
    kernel.reports.clear()
    assert neighbours.gone(1.8, NAMES) == []


def test_while_a_worker_of_it_lives_it_is_not_gone(kernel: Kernel) -> None:
    neighbours = kernel.neighbours()
    del kernel.born[1]
    assert not any(neighbours.gone(now_s / 10, NAMES) for now_s in range(100))


def test_a_pid_that_another_process_has_now_is_not_it(kernel: Kernel) -> None:
    neighbours = kernel.neighbours()
    del kernel.born[2]
    kernel.born[1] = 999
    assert neighbours.gone(0.0, NAMES) == []
    assert neighbours.gone(1.0, NAMES) == ["one"]


@pytest.mark.parametrize("identity", [None, 7, {}, {"host_id": HERE}, {"host_id": HERE, "pid": "1", "born_at": 100},
                                      {"host_id": "another kernel", "pid": 3, "born_at": 100}])
def test_what_cannot_be_judged_from_here_is_not_judged(kernel: Kernel, identity: Any) -> None:
    kernel.reports = [{"supervisor": "two", "identity": identity}]
    neighbours = kernel.neighbours()
    assert not any(neighbours.gone(now_s * REFRESH_S, NAMES) for now_s in range(5))


def test_slots_that_make_no_sense_are_nobodys(kernel: Kernel) -> None:
    kernel.reports[0]["slots"] = [{"pid": "2"}, {"pid": None}, {}]
    kernel.born.clear()
    neighbours = kernel.neighbours()
    assert neighbours.gone(0.0, NAMES) == []
    assert neighbours.gone(1.0, NAMES) == ["one"]


def test_a_supervisor_that_has_just_come_is_known_at_once(kernel: Kernel) -> None:
    neighbours = kernel.neighbours()
    assert neighbours.gone(0.0, ["one"]) == []
    kernel.reports.append({"supervisor": "two", "identity": {"host_id": HERE, "pid": 3, "born_at": 300}})
    assert neighbours.gone(1.0, ["one", "two"]) == []
    assert neighbours.gone(2.0, ["one", "two"]) == ["two"]
