"""promote, expire, sweep, lead, rescue, recover, farewell: what is in Redis afterwards."""

import orjson
import pytest

from engine.core.store.schema import OURS
from engine.core.task.lifecycle import TaskStatus
from engine.core.task.priority import TaskPriority
from tests.scripts.shop import HOUR_MS, Shop, messages
from tests.scripts.test_operating import changes, stands
from tests.scripts.test_refusals import sync_held_runs
from tests.scripts.test_submit import told

P = "ganger:{0}:"


def make_due(shop: Shop, *ids: str) -> None:
    for task_id in ids:
        shop.client.zadd(P + "due", {task_id: shop.now_ms - 1}, xx=True)


def test_promote_queues_what_is_due(shop: Shop) -> None:
    first = shop.claimed()
    shop.submit()
    later, delayed, other = shop.pending(), shop.pending(), shop.pending(queue="x", priority=TaskPriority.HIGH)
    shop.settle(first, TaskStatus.RETRYING)
    make_due(shop, first, delayed, other)
    before = shop.dump()

    assert shop.keeper.promote(10) == (3, int(shop.client.zscore(P + "due", later)))

    changed = changes(shop, before)
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
    assert sorted(told(shop)[-3:]) == sorted([(first, "QUEUED", 1), (delayed, "QUEUED", 0), (other, "QUEUED", 0)])


def test_promote_gives_a_task_its_new_priority(shop: Shop) -> None:
    task_id = shop.retrying()
    shop.broker.set_priority(task_id, TaskPriority.URGENT)
    make_due(shop, task_id)
    shop.keeper.promote(10)
    assert shop.dump()[P + "lane:q:URGENT"] == [(task_id.encode(), 1.0)]


def test_promote_in_pieces(shop: Shop) -> None:
    ids = [shop.pending() for _ in range(7)]
    make_due(shop, *ids)
    assert [shop.keeper.promote(3)[0] for _ in range(4)] == [3, 3, 1, 0]
    assert shop.keeper.promote(3) == (0, None)


def test_promote_wakes_supervisors_and_forgets_strays(shop: Shop) -> None:
    heard = shop.hearing(P + "wakeup:sup")
    shop.client.hset(P + "idle_supervisors", "sup", "*")
    make_due(shop, shop.pending())
    shop.client.zadd(P + "due", {"0" * 19: 1})
    assert shop.keeper.promote(10) == (2, None)
    assert messages(heard, 1) == [b"q"]


def test_a_retried_task_expires_as_one_that_never_ran(shop: Shop) -> None:
    expires_ms = shop.now_ms + HOUR_MS
    late, soon, never = (shop.retrying(-1, **options) for options in (
        {"expires_ms": shop.now_ms - 1}, {"expires_ms": expires_ms}, {}))
    assert not shop.client.exists(P + "expiring"), "their claims took them out"
    assert shop.keeper.promote(10) == (3, None)
    assert [shop.state(task_id).status for task_id in (late, soon, never)] == [
        TaskStatus.FAILED, TaskStatus.QUEUED, TaskStatus.QUEUED]
    ended = shop.broker.read([late])[0]
    assert ended is not None
    assert ended.outcome is not None
    assert ended.outcome["cause"] == "expired"
    assert shop.client.zrange(P + "expiring", 0, -1, withscores=True) == [(soon.encode(), expires_ms)]


def test_expire(shop: Shop) -> None:
    kept = shop.submit(expires_ms=shop.now_ms + HOUR_MS)
    queued, pending = shop.submit(expires_ms=1), shop.pending(expires_ms=2)
    started = shop.claimed()
    shop.client.zadd(P + "expiring", {started: 3, "0" * 19: 4})
    heard = shop.hearing(P + "done:me")
    shop.client.hset(P + "waiters", queued, ",me")
    before = shop.dump()

    assert shop.keeper.expire(10) == (4, int(shop.client.zscore(P + "expiring", kept)))

    changed = changes(shop, before)
    assert {stands(changed[P + "states"][task_id.encode()]) for task_id in (queued, pending)} == {"FAILED 0 0 0 1 0 -"}
    assert orjson.loads(changed[P + "outcomes"][f"{queued}:0".encode()])["cause"] == "expired"
    assert [task_id for task_id, _ in changed[P + "expiring"]] == [kept.encode()]
    assert changed[P + "lane:q:NORMAL"] == [(kept.encode(), 1.0)]
    assert {task_id for task_id, _ in changed[P + "ended:FAILED"]} == {queued.encode(), pending.encode()}
    assert changed[P + "due"] is None
    assert messages(heard, 1) == [queued.encode()]
    assert shop.state(started).status is TaskStatus.RUNNING


@pytest.mark.parametrize("status", [TaskStatus.COMPLETED, TaskStatus.TIMEOUT])
def test_sweep(shop: Shop, status: TaskStatus) -> None:
    kept = shop.ended(TaskStatus.FAILED, kept_ms=HOUR_MS)
    before = shop.dump()
    gone = [shop.ended(status, kept_ms=-1) for _ in range(3)]
    shop.client.rpush(P + "log:" + gone[0], "{}")
    shop.client.zadd(P + "ended:" + status, {"0" * 19: 1})

    assert shop.keeper.sweep(2)[0] == 2
    assert shop.keeper.sweep(2) == (2, int(shop.client.zscore(P + "ended:FAILED", kept)))

    changed = changes(shop, before)
    assert set(changed) == {P + "counters", P + "cursors:q:NORMAL", P + "supervisors"}


def test_sweep_takes_what_has_no_business_there_and_leaves_its_task(shop: Shop) -> None:
    running, waiting, other = shop.claimed(), shop.submit(), shop.ended(TaskStatus.FAILED, kept_ms=HOUR_MS)
    ended = P + "ended:COMPLETED"
    before = shop.dump()
    shop.client.zadd(ended, {running: 1, waiting: 2, other: 3, "0" * 19: 4, "no task": 5, "": 6, "later": float("inf")})
    shop.client.zadd(ended, {"before all": float("-inf")})
    assert shop.keeper.sweep(3)[0] == 3
    assert shop.keeper.sweep(100) == (4, int(shop.client.zscore(P + "ended:FAILED", other)))
    shop.client.zrem(ended, "later")
    assert shop.dump() == before


def test_sweep_goes_on_with_the_most_overdue_of_all_ends(shop: Shop) -> None:
    for n in range(3):
        shop.ended(TaskStatus.COMPLETED, kept_ms=-1 - n)
    oldest = shop.ended(TaskStatus.FAILED, kept_ms=-1000)
    assert shop.keeper.sweep(1)[0] == 1
    assert shop.broker.read([oldest]) == [None], "a status with much to remove does not starve the others"


def test_sweep_forgets_all_that_is_kept_of_a_task(shop: Shop) -> None:
    before = shop.dump()
    task_id = shop.ended(kept_ms=-1)
    shop.set_life(task_id, TaskStatus.FAILED, run=3)
    for run in range(4):
        shop.client.hset(P + "outcomes", f"{task_id}:{run}", "{}")
    for name in ("progress", "rescues", "waiters"):
        shop.client.hset(P + name, task_id, "1")
    shop.client.zadd(P + "expiring", {task_id: 1})
    shop.client.rpush(P + "log:" + task_id, "{}")
    assert shop.keeper.sweep(10) == (1, None)
    assert set(changes(shop, before)) <= {P + "counters", P + "cursors:q:NORMAL", P + "queues", P + "supervisors",
                                          P + "round_robin:NORMAL", P + "events"}


def test_lead_passes_on_when_it_lapses_or_is_given_up(shop: Shop) -> None:
    now_ms = shop.now_ms
    assert shop.keeper.poll("one", now_ms + HOUR_MS).leads
    assert not shop.keeper.poll("two", now_ms + HOUR_MS).leads
    assert shop.keeper.poll("one", now_ms + 2 * HOUR_MS).leads
    assert shop.dump() == {P + "keeper": f"one {now_ms + 2 * HOUR_MS}".encode(), P + "schema": OURS.encode()}
    assert not shop.keeper.poll("one", now_ms).leads
    assert shop.dump() == {P + "schema": OURS.encode()}
    assert shop.keeper.poll("two", now_ms + HOUR_MS).leads
    shop.client.set(P + "keeper", f"two {now_ms - 1}")
    assert shop.keeper.poll("one", now_ms + HOUR_MS).leads


def test_a_lead_from_before_the_clock_was_set_back_is_none(shop: Shop) -> None:
    now_ms = shop.now_ms
    shop.client.set(P + "keeper", f"two {now_ms + HOUR_MS}")
    assert shop.keeper.poll("one", now_ms + 3000).leads
    assert shop.dump() == {P + "keeper": f"one {now_ms + 3000}".encode(), P + "schema": OURS.encode()}


def test_lapse_ends_a_lease_that_is_as_it_was_seen(shop: Shop) -> None:
    shop.claimed()
    assert shop.keeper.expire_lease("sup", shop.keeper.leases()["sup"])
    assert shop.keeper.leases() == {"sup": 0}


class TestRescue:
    def silence(self, shop: Shop, supervisor: str = "sup") -> None:
        shop.keeper.expire_lease(supervisor)

    def test_a_run_goes_back_to_its_place(self, shop: Shop) -> None:
        task_id, other = shop.claimed(), shop.submit()
        shop.client.hset(P + "progress", task_id, "{}")
        shop.client.hset(P + "reports", "sup", "{}")
        shop.client.hset(P + "idle_supervisors", mapping={"sup": "*", "alive": "*"})
        shop.client.hset(P + "syncs", "sup", 3)
        shop.client.rpush(P + "commands:sup", b'{"do":"level"}')
        heard = shop.hearing(P + "wakeup:alive")
        self.silence(shop)
        before = shop.dump()
        assert shop.keeper.leases()["sup"] < shop.keeper.now_ms()

        report = shop.keeper.rescue("sup", 100)

        assert (report.released, report.failed, report.cancelled, report.is_over) == (1, 0, 0, True)
        changed = changes(shop, before)
        assert stands(changed.pop(P + "states")[task_id.encode()]) == "QUEUED 1 0 0 1 1 -"
        assert orjson.loads(changed.pop(P + "outcomes")[f"{task_id}:1".encode()])["cause"] == "lease_lost"
        assert changed.pop(P + "counters")[b"rescued"] == b"1"
        assert changed == {
            P + "lane:q:NORMAL": [(task_id.encode(), 1.0), (other.encode(), 2.0)],
            P + "rescues": {task_id.encode(): b"1"},
            **dict.fromkeys(P + key for key in ("running:sup", "supervisors", "reports", "commands:sup",
                                                "idle_supervisors", "progress", "syncs"))}
        assert messages(heard, 1) == [b"q"]
        assert "sup" not in shop.keeper.leases()
        assert told(shop)[-1] == (task_id, "QUEUED", 1)

    def test_in_pieces(self, shop: Shop) -> None:
        for _ in range(5):
            shop.claimed()
        self.silence(shop)
        reports = [shop.keeper.rescue("sup", 2) for _ in range(3)]
        assert [report.released for report in reports] == [2, 2, 1]
        assert [report.is_over for report in reports] == [False, False, True]

    def test_one_that_must_not_run_twice_fails(self, shop: Shop) -> None:
        task_id = shop.claimed(max_deliveries=1)
        heard = shop.hearing(P + "done:me")
        shop.client.hset(P + "waiters", task_id, ",me")
        self.silence(shop)
        assert shop.keeper.rescue("sup", 10).failed == 1
        stored = shop.broker.read([task_id])[0]
        assert (stored.state.status, stored.outcome["cause"]) == (TaskStatus.FAILED, "lease_lost")
        assert messages(heard, 1) == [task_id.encode()]
        assert shop.client.zscore(P + "ended:FAILED", task_id) > shop.now_ms

    @pytest.mark.parametrize(("told", "failed"), [
        (b'{"name":"t","max_deliveries":1}', 1), (b'{"name":"t","max_deliveries":2}', 0), (b"nonsense", 0),
        (b'{"max_deliveries":"1"}', 0), (b'{"max_deliveries":-1}', 0)])
    def test_what_a_handler_announced_holds_for_tasks_from_before(self, shop: Shop, told: bytes, failed: int) -> None:
        shop.client.hset(P + "handlers", "t", told)
        shop.claimed()
        self.silence(shop)
        assert shop.keeper.rescue("sup", 10).failed == failed

    def test_one_that_was_lost_too_often_is_set_aside(self, shop: Shop) -> None:
        task_id = shop.submit()
        for _ in range(5):
            shop.claim(task_id)
            self.silence(shop)
            assert shop.keeper.rescue("sup", 10).released == 1
        shop.claim(task_id)
        self.silence(shop)
        assert shop.keeper.rescue("sup", 10).failed == 1
        stored = shop.broker.read([task_id])[0]
        assert (stored.state.status, stored.state.run, stored.outcome["cause"]) == (TaskStatus.FAILED, 6, "poison")
        assert not shop.client.exists(P + "rescues")

    def test_one_that_was_to_be_cancelled_is(self, shop: Shop) -> None:
        task_id, other = shop.claimed(), shop.claimed()
        shop.broker.cancel(task_id, "not wanted")
        self.silence(shop)
        report = shop.keeper.rescue("sup", 10)
        assert (report.cancelled, report.released) == (1, 1)
        assert shop.broker.read([task_id])[0].outcome["error"]["message"] == "not wanted"
        assert shop.state(other).status is TaskStatus.QUEUED

    def test_a_run_that_was_settled_is_only_let_go(self, shop: Shop) -> None:
        task_id = shop.claimed()
        shop.settle(task_id, TaskStatus.COMPLETED)
        shop.client.sadd(P + "running:sup", task_id, "0" * 19)
        self.silence(shop)
        assert shop.keeper.rescue("sup", 10).is_over
        assert shop.state(task_id).status is TaskStatus.COMPLETED
        assert not shop.client.exists(P + "running:sup", P + "supervisors")


class TestRecover:
    def test_what_redis_believes_and_nobody_knows_goes_back(self, shop: Shop) -> None:
        known, unknown = shop.claimed(), shop.claimed(priority=TaskPriority.URGENT)
        shop.client.sadd(P + "running:sup", "0" * 19)
        before = shop.dump()

        assert sync_held_runs(shop, [(known, 1)]) == []

        changed = changes(shop, before)
        assert set(changed.pop(P + "syncs")) == {b"sup"}
        assert stands(changed.pop(P + "states")[unknown.encode()]) == "QUEUED 1 0 0 3 1 -"
        assert changed.pop(P + "counters")[b"released"] == b"1"
        assert changed == {P + "running:sup": {known.encode()}, P + "lane:q:URGENT": [(unknown.encode(), 1.0)]}
        assert told(shop)[-1] == (unknown, "QUEUED", 1)

    def test_what_it_knows_and_is_not_its_own_any_more_is_named(self, shop: Shop) -> None:
        mine, rescued, over = shop.claimed(), shop.claimed(), shop.claimed(supervisor="other")
        shop.settle(rescued, TaskStatus.COMPLETED)
        foreign = sync_held_runs(shop, [(mine, 1), (rescued, 1), (over, 1), (mine, 2)])
        assert foreign == [rescued.encode(), over.encode(), mine.encode()]

    def test_in_harmony_only_its_number_is_kept(self, shop: Shop) -> None:
        task_id = shop.claimed()
        before = shop.dump()
        assert sync_held_runs(shop, [(task_id, 1), ("0" * 19, 1)]) == [b"0" * 19]
        assert set(changes(shop, before)) == {P + "syncs"}

    @pytest.mark.parametrize("record", [b"", b"nonsense\n{}", b"7\n{}", b'["t"]\n{}', b'["t",["q"],1]\n{}', b"\xff\n"])
    def test_what_cannot_be_read_is_passed_over_and_the_others_go_back(self, shop: Shop, record: bytes) -> None:
        broken, sound = shop.claimed(), shop.claimed()
        shop.client.hset(P + "tasks", broken, record)
        assert sync_held_runs(shop, []) == []
        assert shop.client.smembers(P + "running:sup") == {broken.encode()}
        assert shop.state(sound).status is TaskStatus.QUEUED

    def test_a_run_of_any_queue_goes_back_and_has_its_turn(self, shop: Shop) -> None:
        task_id = shop.claimed("x")
        shop.client.delete(P + "round_robin:NORMAL")
        sync_held_runs(shop, [])
        assert shop.state(task_id).status is TaskStatus.QUEUED
        assert [queue for queue, _ in shop.dump()[P + "round_robin:NORMAL"]] == [b"x"]


def test_farewell(shop: Shop) -> None:
    task_id = shop.claimed()
    keys = shop.keys
    for key in (keys.reports, keys.idle_supervisors, keys.syncs):
        shop.client.hset(key, mapping={"sup": "{}", "other": "{}"})
    shop.client.rpush(keys.commands("sup"), "{}")
    shop.client.sadd(keys.types("sup"), "t")
    shop.settle(task_id, TaskStatus.COMPLETED)
    before = shop.dump()
    assert shop.call("unregister", supervisor="sup") == b"OK"
    assert changes(shop, before) == {
        keys.supervisors: None, keys.commands("sup"): None, keys.types("sup"): None,
        **{key: {b"other": b"{}"} for key in (keys.reports, keys.idle_supervisors, keys.syncs)}}
