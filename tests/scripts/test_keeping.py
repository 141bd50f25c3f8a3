"""promote, expire, sweep, lead, rescue, recover, farewell: what is in Redis afterwards."""

import orjson
import pytest

from engine.core.store.schema import OURS
from engine.core.task.lifecycle import TaskStatus
from engine.core.task.priority import TaskPriority
from tests.scripts.broker_rig import HOUR_MS, BrokerRig, messages
from tests.scripts.test_operating import changes, stands
from tests.scripts.test_refusals import sync_held_runs
from tests.scripts.test_submit import told

P = "ganger:{0}:"


def make_due(rig: BrokerRig, *ids: str) -> None:
    for task_id in ids:
        rig.client.zadd(P + "due", {task_id: rig.now_ms - 1}, xx=True)


def test_promote_queues_what_is_due(rig: BrokerRig) -> None:
    first = rig.claimed()
    rig.submit()
    later, delayed, other = rig.pending(), rig.pending(), rig.pending(queue="x", priority=TaskPriority.HIGH)
    rig.settle(first, TaskStatus.RETRYING)
    make_due(rig, first, delayed, other)
    before = rig.dump()

    assert rig.keeper.promote(10) == (3, int(rig.client.zscore(P + "due", later)))

    changed = changes(rig, before)
    lives = changed.pop(P + "states")
    assert stands(lives[first.encode()]) == "QUEUED 1 1 0 1 1 -"
    assert stands(lives[delayed.encode()]) == "QUEUED 0 0 0 1 3 -"
    assert stands(lives[other.encode()]) == "QUEUED 0 0 0 2 1 -"
    line = changed.pop(P + "lane:q:NORMAL")
    assert [line[0], line[-1]] == [(first.encode(), 1.0), (delayed.encode(), 3.0)]
    assert [task_id for task_id, _ in changed.pop(P + "due")] == [later.encode()]
    assert [queue for queue, _ in changed.pop(P + "round_robin:HIGH")] == [b"x"]
    assert changed == {P + "cursors:q:NORMAL": {b"k:": b"3", b"v": b"1"}, P + "lane:x:HIGH": [(other.encode(), 1.0)],
                       P + "cursors:x:HIGH": {b"k:": b"1"}}
    assert sorted(told(rig)[-3:]) == sorted([(first, "QUEUED", 1), (delayed, "QUEUED", 0), (other, "QUEUED", 0)])


def test_promote_gives_a_task_its_new_priority(rig: BrokerRig) -> None:
    task_id = rig.retrying()
    rig.broker.set_priority(task_id, TaskPriority.URGENT)
    make_due(rig, task_id)
    rig.keeper.promote(10)
    assert rig.dump()[P + "lane:q:URGENT"] == [(task_id.encode(), 1.0)]


def test_promote_in_pieces(rig: BrokerRig) -> None:
    ids = [rig.pending() for _ in range(7)]
    make_due(rig, *ids)
    assert [rig.keeper.promote(3)[0] for _ in range(4)] == [3, 3, 1, 0]
    assert rig.keeper.promote(3) == (0, None)


def test_promote_wakes_supervisors_and_forgets_strays(rig: BrokerRig) -> None:
    heard = rig.hearing(P + "wakeup:sup")
    rig.client.hset(P + "idle_supervisors", "sup", "*")
    make_due(rig, rig.pending())
    rig.client.zadd(P + "due", {"0" * 19: 1})
    assert rig.keeper.promote(10) == (2, None)
    assert messages(heard, 1) == [b"q"]


def test_a_retried_task_expires_as_one_that_never_ran(rig: BrokerRig) -> None:
    expires_ms = rig.now_ms + HOUR_MS
    late, soon, never = (rig.retrying(-1, **options) for options in (
        {"expires_ms": rig.now_ms - 1}, {"expires_ms": expires_ms}, {}))
    assert not rig.client.exists(P + "expiring"), "their claims took them out"
    assert rig.keeper.promote(10) == (3, None)
    assert [rig.state(task_id).status for task_id in (late, soon, never)] == [
        TaskStatus.FAILED, TaskStatus.QUEUED, TaskStatus.QUEUED]
    ended = rig.broker.read([late])[0]
    assert ended is not None
    assert ended.outcome is not None
    assert ended.outcome["cause"] == "expired"
    assert rig.client.zrange(P + "expiring", 0, -1, withscores=True) == [(soon.encode(), expires_ms)]


def test_expire(rig: BrokerRig) -> None:
    kept = rig.submit(expires_ms=rig.now_ms + HOUR_MS)
    queued, pending = rig.submit(expires_ms=1), rig.pending(expires_ms=2)
    started = rig.claimed()
    rig.client.zadd(P + "expiring", {started: 3, "0" * 19: 4})
    heard = rig.hearing(P + "done:me")
    rig.client.hset(P + "waiters", queued, ",me")
    before = rig.dump()

    assert rig.keeper.expire(10) == (4, int(rig.client.zscore(P + "expiring", kept)))

    changed = changes(rig, before)
    assert {stands(changed[P + "states"][task_id.encode()]) for task_id in (queued, pending)} == {"FAILED 0 0 0 1 0 -"}
    assert orjson.loads(changed[P + "outcomes"][f"{queued}:0".encode()])["cause"] == "expired"
    assert [task_id for task_id, _ in changed[P + "expiring"]] == [kept.encode()]
    assert changed[P + "lane:q:NORMAL"] == [(kept.encode(), 1.0)]
    assert {task_id for task_id, _ in changed[P + "ended:FAILED"]} == {queued.encode(), pending.encode()}
    assert changed[P + "due"] is None
    assert messages(heard, 1) == [queued.encode()]
    assert rig.state(started).status is TaskStatus.RUNNING


@pytest.mark.parametrize("status", [TaskStatus.COMPLETED, TaskStatus.TIMEOUT])
def test_sweep(rig: BrokerRig, status: TaskStatus) -> None:
    kept = rig.ended(TaskStatus.FAILED, kept_ms=HOUR_MS)
    before = rig.dump()
    gone = [rig.ended(status, kept_ms=-1) for _ in range(3)]
    rig.client.rpush(P + "log:" + gone[0], "{}")
    rig.client.zadd(P + "ended:" + status, {"0" * 19: 1})

    assert rig.keeper.sweep(2)[0] == 2
    assert rig.keeper.sweep(2) == (2, int(rig.client.zscore(P + "ended:FAILED", kept)))

    changed = changes(rig, before)
    assert set(changed) == {P + "counters", P + "cursors:q:NORMAL", P + "supervisors"}


def test_sweep_takes_what_has_no_business_there_and_leaves_its_task(rig: BrokerRig) -> None:
    running, waiting, other = rig.claimed(), rig.submit(), rig.ended(TaskStatus.FAILED, kept_ms=HOUR_MS)
    ended = P + "ended:COMPLETED"
    before = rig.dump()
    rig.client.zadd(ended, {running: 1, waiting: 2, other: 3, "0" * 19: 4, "no task": 5, "": 6, "later": float("inf")})
    rig.client.zadd(ended, {"before all": float("-inf")})
    assert rig.keeper.sweep(3)[0] == 3
    assert rig.keeper.sweep(100) == (4, int(rig.client.zscore(P + "ended:FAILED", other)))
    rig.client.zrem(ended, "later")
    assert rig.dump() == before


def test_sweep_goes_on_with_the_most_overdue_of_all_ends(rig: BrokerRig) -> None:
    for n in range(3):
        rig.ended(TaskStatus.COMPLETED, kept_ms=-1 - n)
    oldest = rig.ended(TaskStatus.FAILED, kept_ms=-1000)
    assert rig.keeper.sweep(1)[0] == 1
    assert rig.broker.read([oldest]) == [None], "a status with much to remove does not starve the others"


def test_sweep_forgets_all_that_is_kept_of_a_task(rig: BrokerRig) -> None:
    before = rig.dump()
    task_id = rig.ended(kept_ms=-1)
    rig.set_life(task_id, TaskStatus.FAILED, run=3)
    for run in range(4):
        rig.client.hset(P + "outcomes", f"{task_id}:{run}", "{}")
    for name in ("progress", "rescues", "waiters"):
        rig.client.hset(P + name, task_id, "1")
    rig.client.zadd(P + "expiring", {task_id: 1})
    rig.client.rpush(P + "log:" + task_id, "{}")
    assert rig.keeper.sweep(10) == (1, None)
    assert set(changes(rig, before)) <= {P + "counters", P + "cursors:q:NORMAL", P + "queues", P + "supervisors",
                                          P + "round_robin:NORMAL", P + "events"}


def test_lead_passes_on_when_it_lapses_or_is_given_up(rig: BrokerRig) -> None:
    now_ms = rig.now_ms
    assert rig.keeper.poll("one", now_ms + HOUR_MS).leads
    assert not rig.keeper.poll("two", now_ms + HOUR_MS).leads
    assert rig.keeper.poll("one", now_ms + 2 * HOUR_MS).leads
    assert rig.dump() == {P + "keeper": f"one {now_ms + 2 * HOUR_MS}".encode(), P + "schema": OURS.encode()}
    assert not rig.keeper.poll("one", now_ms).leads
    assert rig.dump() == {P + "schema": OURS.encode()}
    assert rig.keeper.poll("two", now_ms + HOUR_MS).leads
    rig.client.set(P + "keeper", f"two {now_ms - 1}")
    assert rig.keeper.poll("one", now_ms + HOUR_MS).leads


def test_a_lead_from_before_the_clock_was_set_back_is_none(rig: BrokerRig) -> None:
    now_ms = rig.now_ms
    rig.client.set(P + "keeper", f"two {now_ms + HOUR_MS}")
    assert rig.keeper.poll("one", now_ms + 3000).leads
    assert rig.dump() == {P + "keeper": f"one {now_ms + 3000}".encode(), P + "schema": OURS.encode()}


def test_lapse_ends_a_lease_that_is_as_it_was_seen(rig: BrokerRig) -> None:
    rig.claimed()
    assert rig.keeper.expire_lease("sup", rig.keeper.leases()["sup"])
    assert rig.keeper.leases() == {"sup": 0}


class TestRescue:
    def silence(self, rig: BrokerRig, supervisor: str = "sup") -> None:
        rig.keeper.expire_lease(supervisor)

    def test_a_run_goes_back_to_its_place(self, rig: BrokerRig) -> None:
        task_id, other = rig.claimed(), rig.submit()
        rig.client.hset(P + "progress", task_id, "{}")
        rig.client.hset(P + "reports", "sup", "{}")
        rig.client.hset(P + "idle_supervisors", mapping={"sup": "*", "alive": "*"})
        rig.client.hset(P + "syncs", "sup", 3)
        rig.client.rpush(P + "commands:sup", b'{"do":"level"}')
        heard = rig.hearing(P + "wakeup:alive")
        self.silence(rig)
        before = rig.dump()
        assert rig.keeper.leases()["sup"] < rig.keeper.now_ms()

        report = rig.keeper.rescue("sup", 100)

        assert (report.released, report.failed, report.cancelled, report.is_over) == (1, 0, 0, True)
        changed = changes(rig, before)
        assert stands(changed.pop(P + "states")[task_id.encode()]) == "QUEUED 1 0 0 1 1 -"
        assert orjson.loads(changed.pop(P + "outcomes")[f"{task_id}:1".encode()])["cause"] == "lease_lost"
        assert changed.pop(P + "counters")[b"rescued"] == b"1"
        assert changed == {
            P + "lane:q:NORMAL": [(task_id.encode(), 1.0), (other.encode(), 2.0)],
            P + "rescues": {task_id.encode(): b"1"},
            **dict.fromkeys(P + key for key in ("running:sup", "supervisors", "reports", "commands:sup",
                                                "idle_supervisors", "progress", "syncs"))}
        assert messages(heard, 1) == [b"q"]
        assert "sup" not in rig.keeper.leases()
        assert told(rig)[-1] == (task_id, "QUEUED", 1)

    def test_in_pieces(self, rig: BrokerRig) -> None:
        for _ in range(5):
            rig.claimed()
        self.silence(rig)
        reports = [rig.keeper.rescue("sup", 2) for _ in range(3)]
        assert [report.released for report in reports] == [2, 2, 1]
        assert [report.is_over for report in reports] == [False, False, True]

    def test_one_that_must_not_run_twice_fails(self, rig: BrokerRig) -> None:
        task_id = rig.claimed(max_deliveries=1)
        heard = rig.hearing(P + "done:me")
        rig.client.hset(P + "waiters", task_id, ",me")
        self.silence(rig)
        assert rig.keeper.rescue("sup", 10).failed == 1
        stored = rig.broker.read([task_id])[0]
        assert (stored.state.status, stored.outcome["cause"]) == (TaskStatus.FAILED, "lease_lost")
        assert messages(heard, 1) == [task_id.encode()]
        assert rig.client.zscore(P + "ended:FAILED", task_id) > rig.now_ms

    @pytest.mark.parametrize(("told", "failed"), [
        (b'{"name":"t","max_deliveries":1}', 1), (b'{"name":"t","max_deliveries":2}', 0), (b"nonsense", 0),
        (b'{"max_deliveries":"1"}', 0), (b'{"max_deliveries":-1}', 0)])
    def test_what_a_handler_announced_holds_for_tasks_from_before(
            self, rig: BrokerRig, told: bytes, failed: int) -> None:
        rig.client.hset(P + "handlers", "t", told)
        rig.claimed()
        self.silence(rig)
        assert rig.keeper.rescue("sup", 10).failed == failed

    def test_one_that_was_lost_too_often_is_set_aside(self, rig: BrokerRig) -> None:
        task_id = rig.submit()
        for _ in range(5):
            rig.claim(task_id)
            self.silence(rig)
            assert rig.keeper.rescue("sup", 10).released == 1
        rig.claim(task_id)
        self.silence(rig)
        assert rig.keeper.rescue("sup", 10).failed == 1
        stored = rig.broker.read([task_id])[0]
        assert (stored.state.status, stored.state.run, stored.outcome["cause"]) == (TaskStatus.FAILED, 6, "poison")
        assert not rig.client.exists(P + "rescues")

    def test_one_that_was_to_be_cancelled_is(self, rig: BrokerRig) -> None:
        task_id, other = rig.claimed(), rig.claimed()
        rig.broker.cancel(task_id, "not wanted")
        self.silence(rig)
        report = rig.keeper.rescue("sup", 10)
        assert (report.cancelled, report.released) == (1, 1)
        assert rig.broker.read([task_id])[0].outcome["error"]["message"] == "not wanted"
        assert rig.state(other).status is TaskStatus.QUEUED

    def test_a_run_that_was_settled_is_only_let_go(self, rig: BrokerRig) -> None:
        task_id = rig.claimed()
        rig.settle(task_id, TaskStatus.COMPLETED)
        rig.client.sadd(P + "running:sup", task_id, "0" * 19)
        self.silence(rig)
        assert rig.keeper.rescue("sup", 10).is_over
        assert rig.state(task_id).status is TaskStatus.COMPLETED
        assert not rig.client.exists(P + "running:sup", P + "supervisors")


class TestRecover:
    def test_what_redis_believes_and_nobody_knows_goes_back(self, rig: BrokerRig) -> None:
        known, unknown = rig.claimed(), rig.claimed(priority=TaskPriority.URGENT)
        rig.client.sadd(P + "running:sup", "0" * 19)
        before = rig.dump()

        assert sync_held_runs(rig, [(known, 1)]) == []

        changed = changes(rig, before)
        assert set(changed.pop(P + "syncs")) == {b"sup"}
        assert stands(changed.pop(P + "states")[unknown.encode()]) == "QUEUED 1 0 0 3 1 -"
        assert changed.pop(P + "counters")[b"released"] == b"1"
        assert changed == {P + "running:sup": {known.encode()}, P + "lane:q:URGENT": [(unknown.encode(), 1.0)]}
        assert told(rig)[-1] == (unknown, "QUEUED", 1)

    def test_what_it_knows_and_is_not_its_own_any_more_is_named(self, rig: BrokerRig) -> None:
        mine, rescued, over = rig.claimed(), rig.claimed(), rig.claimed(supervisor="other")
        rig.settle(rescued, TaskStatus.COMPLETED)
        foreign = sync_held_runs(rig, [(mine, 1), (rescued, 1), (over, 1), (mine, 2)])
        assert foreign == [rescued.encode(), over.encode(), mine.encode()]

    def test_in_harmony_only_its_number_is_kept(self, rig: BrokerRig) -> None:
        task_id = rig.claimed()
        before = rig.dump()
        assert sync_held_runs(rig, [(task_id, 1), ("0" * 19, 1)]) == [b"0" * 19]
        assert set(changes(rig, before)) == {P + "syncs"}

    @pytest.mark.parametrize("record", [b"", b"nonsense\n{}", b"7\n{}", b'["t"]\n{}', b'["t",["q"],1]\n{}', b"\xff\n"])
    def test_what_cannot_be_read_is_passed_over_and_the_others_go_back(self, rig: BrokerRig, record: bytes) -> None:
        broken, sound = rig.claimed(), rig.claimed()
        rig.client.hset(P + "tasks", broken, record)
        assert sync_held_runs(rig, []) == []
        assert rig.client.smembers(P + "running:sup") == {broken.encode()}
        assert rig.state(sound).status is TaskStatus.QUEUED

    def test_a_run_of_any_queue_goes_back_and_has_its_turn(self, rig: BrokerRig) -> None:
        task_id = rig.claimed("x")
        rig.client.delete(P + "round_robin:NORMAL")
        sync_held_runs(rig, [])
        assert rig.state(task_id).status is TaskStatus.QUEUED
        assert [queue for queue, _ in rig.dump()[P + "round_robin:NORMAL"]] == [b"x"]


def test_farewell(rig: BrokerRig) -> None:
    task_id = rig.claimed()
    keys = rig.keys
    for key in (keys.reports, keys.idle_supervisors, keys.syncs):
        rig.client.hset(key, mapping={"sup": "{}", "other": "{}"})
    rig.client.rpush(keys.commands("sup"), "{}")
    rig.client.sadd(keys.types("sup"), "t")
    rig.settle(task_id, TaskStatus.COMPLETED)
    before = rig.dump()
    assert rig.call("unregister", supervisor="sup") == b"OK"
    assert changes(rig, before) == {
        keys.supervisors: None, keys.commands("sup"): None, keys.types("sup"): None,
        **{key: {b"other": b"{}"} for key in (keys.reports, keys.idle_supervisors, keys.syncs)}}
