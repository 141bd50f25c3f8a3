"""A supervisor is given what it can run. What it cannot waits aside at its place, uncharged, for one that can."""

from typing import Any

import pytest

from engine.adapters.redis.tasks.lanes import TYPES_MAX
from engine.adapters.redis.tasks.search import search
from engine.client.filters import query_of
from engine.core.task.lifecycle import TaskStatus
from engine.core.task.priority import TaskPriority
from engine.core.task.query import TaskQuery
from tests.scripts.broker_rig import HOUR_MS, BrokerRig, messages
from tests.scripts.test_refusals import reconcile_all, sync_held_runs
from tests.scripts.test_step import Supervisor

LOW, NORMAL, HIGH, URGENT = TaskPriority


def aside(rig: BrokerRig, task_type: str = "new", queue: str = "q", priority: TaskPriority = NORMAL) -> list[bytes]:
    found: list[bytes] = rig.client.zrange(rig.keys.lane(queue, priority, task_type), 0, -1)
    return found


@pytest.fixture
def old(rig: BrokerRig) -> Supervisor:
    return Supervisor(rig, "old")


@pytest.fixture
def new(rig: BrokerRig) -> Supervisor:
    return Supervisor(rig, "new", types=("t", "new"))


@pytest.fixture
def waiting(rig: BrokerRig, old: Supervisor) -> str:
    """A task that waits aside."""
    task_id = rig.submit(task_type="new")
    assert old.claim(1) == []
    assert aside(rig) == [task_id.encode()]
    return task_id


def test_a_type_it_does_not_know_is_not_claimed_and_nothing_is_charged(rig: BrokerRig, old: Supervisor) -> None:
    foreign, own = rig.submit(task_type="new"), rig.submit()
    assert old.claim(5) == [own]
    state = rig.state(foreign)
    assert (state.status, state.run, state.attempts, state.crashes) == (TaskStatus.QUEUED, 0, 0, 0)
    state = rig.dump()
    assert foreign.encode() not in state[rig.keys.states]
    assert state[rig.keys.lane("q", NORMAL, "new")] == [(foreign.encode(), 1.0)], "at its place"
    assert state[rig.keys.counters][b"runs"] == b"1"
    assert not any(foreign.encode() in entry[b"e"] and b"RUNNING" in entry[b"e"] for entry in state[rig.keys.events])


def test_whoever_knows_it_is_given_it_in_its_order(rig: BrokerRig, old: Supervisor, new: Supervisor) -> None:
    ids = [rig.submit(task_type="new") for _ in range(5)]
    assert old.claim(5) == []
    assert new.step(want=3)[1] == [(task_id, "1 0 0") for task_id in ids[:3]]
    assert new.claim(5) == ids[3:]
    new.claim(1)
    assert not {rig.keys.round_robin(NORMAL, "new"), rig.keys.lane("q", NORMAL, "new")} & rig.dump().keys()


def test_urgent_ones_aside_come_before_others_in_line(rig: BrokerRig, old: Supervisor, new: Supervisor) -> None:
    urgent = rig.submit(task_type="new", priority=URGENT)
    normal = rig.submit()
    old.step(want=1)
    assert new.claim(1) == [urgent]
    assert rig.state(normal).owner == "old"


def test_who_learns_the_type_is_given_what_waits_aside(rig: BrokerRig, old: Supervisor, waiting: str) -> None:
    assert old.claim(1) == []
    old.learn("t", "new")
    assert old.claim(1) == [waiting]


def test_who_unlearns_it_is_given_no_more(rig: BrokerRig, new: Supervisor) -> None:
    first, second = (rig.submit(task_type="new") for _ in range(2))
    assert new.claim(1) == [first]
    new.learn("t")
    assert new.claim(1) == []
    assert aside(rig) == [second.encode()]


def test_who_has_not_said_what_it_knows_is_given_nothing_and_moves_nothing(rig: BrokerRig) -> None:
    fresh, task_id = Supervisor(rig, "fresh", types=()), rig.submit()
    assert fresh.step(want=5)[3] == 0
    assert rig.client.zscore(rig.keys.lane("q", NORMAL), task_id) == 1


def test_many_strangers_in_front_hide_nothing_behind_them(rig: BrokerRig, old: Supervisor) -> None:
    strangers = rig.broker.submit([rig.new(task_type="new") for _ in range(3_000)])
    own = rig.submit()
    steps = 1
    with rig.hearing(rig.keys.wakeup("old")) as heard:
        while old.claim(1) != [own]:
            assert messages(heard, 1) == [b"!"], "it is to come again at once"
            steps += 1
    assert 3 < steps < 20, "some at a time, each once"
    assert len(aside(rig)) == 3_000
    assert aside(rig) == [task_id.encode() for task_id in strangers]


def test_each_type_waits_for_itself(rig: BrokerRig, old: Supervisor) -> None:
    ids = {name: rig.submit(task_type=name) for name in ("a", "b", "ä: \"ö\"", "c\\d")}
    assert old.claim(9) == []
    for name, task_id in ids.items():
        assert Supervisor(rig, "one", types=(name,)).claim(9) == [task_id], name


def test_types_that_waited_aside_before_do_not_hide_one_that_waits_now(rig: BrokerRig, old: Supervisor) -> None:
    types = tuple(f"type {n}" for n in range(40))
    knower = Supervisor(rig, "knower", types=types)
    ids = [rig.submit(task_type=name) for name in types]
    old.step(want=40)
    knower.serves = ",other,"
    with rig.hearing(rig.keys.wakeup("knower")) as heard:
        assert knower.claim(40) == []
        assert heard.get_message(timeout=0) is None, "it must not come again for what it does not serve"
    knower.serves = "*"
    taken: list[str] = []
    with rig.hearing(rig.keys.wakeup("knower")) as heard:
        while len(taken) < len(ids):
            taken += knower.claim(40)
            assert len(taken) == len(ids) or messages(heard, 1) == [b"!"], "it is to come again at once"
    assert sorted(taken) == sorted(ids)
    for name in types:
        task_id = rig.submit(task_type=name)
        old.step(want=1)
        assert knower.claim(1) == [task_id], name
    knower.claim(1)
    assert rig.keys.types_aside not in rig.dump()


def test_a_record_that_cannot_be_read_goes_to_whoever_asks_first(rig: BrokerRig, old: Supervisor) -> None:
    """The pool says what is wrong with it."""
    task_id = rig.submit()
    rig.client.hset(rig.keys.tasks, task_id, b"7\n{}")
    assert old.claim(1) == [task_id]


def test_a_task_alone_is_handed_to_one_that_knows_it_and_wakes_no_other(rig: BrokerRig) -> None:
    with rig.hearing(rig.keys.wakeup("old"), rig.keys.wakeup("new")) as heard:
        Supervisor(rig, "old").step(want=8, idle=8)
        Supervisor(rig, "new", types=("new",)).step(want=2, idle=1)
        task_id = rig.submit(task_type="new")
        assert messages(heard, 1)[0].startswith(b"=" + task_id.encode())
        assert rig.state(task_id).owner == "new"
        rig.submit(task_type="other")
        assert heard.get_message(timeout=0) is None
    assert set(rig.dump()[rig.keys.idle_supervisors]) == {b"old", b"new"}


def test_who_meets_strangers_wakes_those_that_know_them(rig: BrokerRig, old: Supervisor) -> None:
    strangers = [rig.submit(task_type="new") for _ in range(3)]
    for name, types in (("one", ("new",)), ("two", ("x",)), ("three", ("x", "new"))):
        Supervisor(rig, name, "q", types=types)
        rig.client.hset(rig.keys.idle_supervisors, name, "*")  # since before those came
    with rig.hearing(*map(rig.keys.wakeup, ("one", "two", "three"))) as heard:
        assert old.claim(1) == []
        assert messages(heard, 2) == [b"q", b"q"]
    assert set(rig.dump()[rig.keys.idle_supervisors]) == {b"old", b"two"}
    assert aside(rig) == [task_id.encode() for task_id in strangers]


def test_what_expires_aside_ends_without_a_run(rig: BrokerRig, old: Supervisor) -> None:
    task_id = rig.submit(task_type="new", expires_ms=rig.now_ms + HOUR_MS)
    old.claim(1)
    rig.client.zadd(rig.keys.expiring, {task_id: 1})
    assert rig.keeper.expire(10)[0] == 1
    assert rig.state(task_id).status is TaskStatus.FAILED
    assert aside(rig) == []


def test_a_release_of_a_type_that_is_not_known_goes_aside(rig: BrokerRig, new: Supervisor) -> None:
    task_id = rig.submit(task_type="new")
    assert new.claim(1) == [task_id]
    assert new.end(task_id, "release nobody", at="q new", outcome=b"") == []
    assert aside(rig) == [task_id.encode()]
    assert new.claim(1) == [task_id]


def test_cancelled_aside(rig: BrokerRig, waiting: str) -> None:
    assert rig.broker.cancel(waiting, "no more") is TaskStatus.CANCELLED
    assert aside(rig) == []


def test_reprioritized_aside(rig: BrokerRig, waiting: str, new: Supervisor) -> None:
    rig.broker.set_priority(waiting, URGENT)
    assert aside(rig) == []
    assert new.claim(1) == [waiting]


def test_purged_aside(rig: BrokerRig, waiting: str) -> None:
    other = rig.submit()
    assert rig.broker.purge("q", 10) == 2
    assert {rig.state(task_id).status for task_id in (waiting, other)} == {TaskStatus.CANCELLED}


@pytest.fixture
def behind_thousands(rig: BrokerRig, waiting: str) -> str:
    """A task that waits aside, its type behind 2,000 others."""
    rig.client.sadd(rig.keys.types_aside, *(f"a{n}" for n in range(2_000)))
    return waiting


def test_purged_behind_thousands_of_types(rig: BrokerRig, behind_thousands: str) -> None:
    assert rig.broker.purge("q", 10) == 1
    assert rig.state(behind_thousands).status is TaskStatus.CANCELLED


def test_resumed_behind_thousands_of_types(rig: BrokerRig, behind_thousands: str, new: Supervisor) -> None:
    rig.broker.pause("q")
    assert new.claim(1) == []
    rig.broker.resume("q")
    assert new.claim(1) == [behind_thousands]


def test_counted_and_found_behind_thousands_of_types(rig: BrokerRig, behind_thousands: str) -> None:
    assert rig.broker.status_counts()[TaskStatus.QUEUED] == 1
    assert rig.broker.queue_stats()[0]["queued"]["NORMAL"] == 1
    found = rig.broker.search(query_of({"status": TaskStatus.QUEUED}), 100)
    assert [task.id for task in found.tasks] == [behind_thousands]
    found = search(rig.broker.redis, rig.keys, TaskQuery(statuses=(TaskStatus.QUEUED,), queue="q"), 10, None)
    assert [task.id for task in found.tasks] == [behind_thousands]


def test_no_more_than_a_thousand_types_are_told_apart_and_all_are_counted(rig: BrokerRig, old: Supervisor) -> None:
    types = [f"a{n}" for n in range(TYPES_MAX + 50)]
    rig.broker.submit([rig.new(task_type=task_type) for task_type in types])
    while len(rig.client.smembers(rig.keys.types_aside)) < len(types):
        assert old.claim(100) == []
    (stats,) = rig.broker.queue_stats()
    assert (stats["queued"]["NORMAL"], len(stats["aside"])) == (len(types), TYPES_MAX)


def test_a_queue_in_which_all_wait_aside_is_in_use(rig: BrokerRig, waiting: str) -> None:
    reconcile_all(rig)
    assert rig.client.hgetall(rig.keys.unused) == {}


def test_counted_and_found_aside(rig: BrokerRig, waiting: str) -> None:
    (stats,) = rig.broker.queue_stats()
    assert (stats["queued"]["NORMAL"], stats["aside"]) == (1, {"new": 1})
    assert stats["oldest_s"] is not None
    assert rig.broker.status_counts()[TaskStatus.QUEUED] == 1
    found = rig.broker.search(query_of({"status": TaskStatus.QUEUED}), 100)
    assert [task.id for task in found.tasks] == [waiting]
    found = search(rig.broker.redis, rig.keys, TaskQuery(statuses=(TaskStatus.QUEUED,), queue="q"), 10, None)
    assert [task.id for task in found.tasks] == [waiting]


def test_paused_aside(rig: BrokerRig, waiting: str, new: Supervisor) -> None:
    rig.broker.pause("q")
    assert new.claim(1) == []
    rig.submit(task_type="new")
    assert new.claim(1) == []
    assert rig.broker.status_counts()[TaskStatus.QUEUED] == 2
    with rig.hearing(rig.keys.wakeup("new")) as heard:
        rig.broker.resume("q")
        assert messages(heard, 1) == [b"q"]
    assert len(new.claim(9)) == 2


def test_its_wait_counts_for_those_that_know_it(rig: BrokerRig, waiting: str) -> None:
    def heads(supervisor: str) -> Any:
        return rig.unchanged(lambda: rig.call("get_lane_waits", supervisor=supervisor, serves="*"))

    Supervisor(rig, "new", types=("new",))
    assert heads("old") == []
    assert heads("new") == [waiting.encode(), b""]


def test_promoted_and_rescued_ones_go_to_their_line_and_then_aside(rig: BrokerRig, old: Supervisor,
                                                                   new: Supervisor) -> None:
    task_id = rig.submit(task_type="new")
    assert new.claim(1) == [task_id]
    sync_held_runs(rig, [], "new")
    assert old.claim(1) == []
    assert aside(rig) == [task_id.encode()]
    assert new.step(want=1)[1] == [(task_id, "2 0 0 1")]


def test_what_waits_aside_is_no_contradiction(rig: BrokerRig, waiting: str) -> None:
    assert set(reconcile_all(rig)) <= {"flows"}
    assert aside(rig) == [waiting.encode()]


@pytest.mark.parametrize("key", ["turns", "aside"])
def test_what_waits_aside_and_has_lost_its_turn_gets_it_again(rig: BrokerRig, waiting: str, new: Supervisor,
                                                              key: str) -> None:
    rig.client.delete(rig.keys.types_aside if key == "aside" else rig.keys.round_robin(NORMAL, "new"))
    assert reconcile_all(rig)["line"] == 1
    assert new.claim(2) == [waiting]


def test_the_turns_of_what_has_gone_are_forgotten(rig: BrokerRig, waiting: str) -> None:
    rig.broker.cancel(waiting, "no more")
    reconcile_all(rig)
    assert not {rig.keys.types_aside, rig.keys.round_robin(NORMAL, "new")} & rig.dump().keys()
