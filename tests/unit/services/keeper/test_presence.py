"""Which supervisors of this host are gone, by the kernel's word; and whom the end of what is left reaches."""

from collections.abc import Iterable
from typing import Any

import pytest

from engine.adapters.kernel.identity import Identity, Presence
from engine.services.keeper.presence import SupervisorPresence
from engine.services.keeper.reports import REFRESH_S, SupervisorReports

HERE = "this kernel"
NAMES = ("one", "two")


class Kernel:
    """Processes by pid, with the moment of their birth; some cannot be seen. `ended`: whom it was told to end."""

    def __init__(self) -> None:
        self.born: dict[int, int] = {1: 100, 2: 200, 3: 300}
        self.hidden: set[int] = set()
        self.ended: list[int] = []
        self.name = HERE
        self.reports: list[dict[str, Any]] = [told("one", 1, 100, [[2, 200], [3, 300]])]

    def host_id(self) -> str:
        return self.name

    def presence(self, one: Identity) -> Presence:
        if one.pid in self.hidden:
            return Presence.HIDDEN
        born = self.born.get(one.pid)
        return Presence.LIVES if born is not None and one.born_at in (None, born) else Presence.GONE

    def end(self, roots: Iterable[Identity], within_s: float) -> bool:
        for one in roots:
            self.ended.append(one.pid)
            self.born.pop(one.pid, None)
        return True

    def watch(self) -> SupervisorPresence:
        return SupervisorPresence(SupervisorReports(lambda: self.reports), self)


def told(name: str, pid: Any, born_at: Any, below: Any, host_id: Any = HERE) -> dict[str, Any]:
    return {"supervisor": name, "identity": {"host_id": host_id, "pid": pid, "born_at": born_at, "below": below}}


@pytest.fixture
def kernel() -> Kernel:
    return Kernel()


def named(presence: SupervisorPresence) -> set[str]:
    """Whoever is named within a minute."""
    return {name for now_s in range(60) for name in presence.gone(float(now_s), NAMES)}


def test_one_that_lives_is_left_alone(kernel: Kernel) -> None:
    assert not named(kernel.watch())
    assert not kernel.ended


def test_one_that_is_gone_is_named_when_that_is_sure_and_until_its_report_is_gone(kernel: Kernel) -> None:
    presence = kernel.watch()
    assert presence.gone(0.0, NAMES) == []
    kernel.born.clear()
    assert presence.gone(1.0, NAMES) == []
    assert presence.gone(1.4, NAMES) == [], "what it has started may be a moment behind"
    assert presence.gone(1.6, NAMES) == ["one"]
    assert presence.gone(1.7, NAMES) == ["one"]
    kernel.reports.clear()
    assert presence.gone(1.8, NAMES) == []


@pytest.mark.parametrize("hidden", [1, 2, 3])
def test_one_of_which_something_cannot_be_seen_is_believed_to_live(kernel: Kernel, hidden: int) -> None:
    kernel.born.clear()
    kernel.hidden.add(hidden)
    assert not named(kernel.watch())
    assert not kernel.ended, "nobody is ended who cannot be seen"


def test_what_a_dead_supervisor_left_is_ended_and_then_it_is_gone(kernel: Kernel) -> None:
    presence = kernel.watch()
    del kernel.born[1]
    assert presence.gone(0.0, NAMES) == []
    assert kernel.ended == [2, 3]
    assert named(presence) == {"one"}


def test_a_number_that_another_process_has_now_is_not_it(kernel: Kernel) -> None:
    kernel.born = {1: 999, 2: 999, 3: 999}
    assert named(kernel.watch()) == {"one"}
    assert not kernel.ended


def test_whatever_is_left_of_a_lapsed_supervisor_is_ended(kernel: Kernel) -> None:
    presence = kernel.watch()
    presence.gone(0.0, NAMES)
    presence.end("one")
    presence.end("two")
    assert kernel.ended == [1, 2, 3]


@pytest.mark.parametrize("identity", [
    None, 7, {}, {"host_id": HERE}, {"host_id": HERE, "pid": "1", "born_at": 100},
    {"host_id": "another kernel", "pid": 9, "born_at": 100}, {"host_id": 5, "pid": 9, "born_at": 100},
    {"host_id": HERE, "pid": 9}])
def test_what_cannot_be_judged_from_here_is_not_judged(kernel: Kernel, identity: Any) -> None:
    kernel.reports = [{"supervisor": "two", "identity": identity}, {}, {"supervisor": "one"}]
    presence = kernel.watch()
    assert not any(presence.gone(now_s * REFRESH_S, NAMES) for now_s in range(5))
    presence.end("two")
    assert not kernel.ended


def test_where_our_own_kernel_cannot_be_named_nobody_is_judged(kernel: Kernel) -> None:
    kernel.name = ""
    kernel.reports = [told("one", 1, 100, [], host_id="")]
    kernel.born.clear()
    assert not named(kernel.watch())


@pytest.mark.parametrize("below", [None, "2", [["2", 3]], [[2]], [7], [[True, False]]])
def test_processes_that_make_no_sense_are_nobodys(kernel: Kernel, below: Any) -> None:
    kernel.reports = [told("one", 1, 100, below)]
    del kernel.born[1]
    assert named(kernel.watch()) == {"one"}


def test_workers_that_are_named_by_their_number_alone_count_as_well(kernel: Kernel) -> None:
    """As an earlier version tells of them."""
    kernel.reports = [{"supervisor": "one", "identity": {"host_id": HERE, "pid": 9, "born_at": 1},
                       "slots": [{"pid": 2}, {"pid": "3"}, {}, None]}]
    presence = kernel.watch()
    kernel.hidden.add(2)
    assert not named(presence)
    kernel.hidden.clear()
    del kernel.born[2]
    assert named(presence) == {"one"}


def test_a_supervisor_that_has_just_come_is_known_at_once(kernel: Kernel) -> None:
    presence = kernel.watch()
    assert presence.gone(0.0, ["one"]) == []
    kernel.reports.append(told("two", 9, 300, []))
    assert presence.gone(1.0, ["one", "two"]) == []
    assert presence.gone(2.0, ["one", "two"]) == ["two"]


@pytest.mark.parametrize(("lease_s", "known"), [(5, 5.0), (60.5, 60.5), (None, None), ("9", None), (0, None),
                                                (-1, None), (1e9, None), (float("nan"), None)])
def test_the_length_of_a_lease_is_believed_within_its_bounds(kernel: Kernel, lease_s: Any, known: float | None) -> None:
    reports = SupervisorReports(lambda: [{**kernel.reports[0], "lease_s": lease_s}])
    reports.refresh(0.0, NAMES)
    report = reports.of("one")
    assert report is not None
    assert report.lease_s == known
