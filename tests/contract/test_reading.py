"""What the broker tells of queues, supervisors, processes, logs and Redis."""

import orjson

from engine.core.measure.usage_history import ENTRIES_MAX
from engine.core.task.lifecycle import TaskStatus
from engine.core.task.priority import TaskPriority
from tests.scripts.shop import HOUR_MS, PAYLOAD, Shop

P = "ganger:{0}:"


def test_a_task_as_it_is_stored(shop: Shop) -> None:
    running = shop.claimed(name="cover")
    shop.client.hset(P + "progress", running, b'{"fraction":0.5}')
    queued, ended = shop.submit(priority=TaskPriority.HIGH), shop.ended(TaskStatus.COMPLETED)
    first, second, third, fourth = shop.broker.read([running, "0" * 19, queued, ended])
    assert (first.record.payload, first.record.options, first.progress) == (
        PAYLOAD, {"name": "cover"}, {"fraction": 0.5})
    assert (first.state.status, first.state.run, first.state.owner) == (TaskStatus.RUNNING, 1, "sup")
    assert first.outcome is None
    assert second is None
    assert (third.state.status, third.state.run, third.state.priority) == (TaskStatus.QUEUED, 0, TaskPriority.HIGH)
    assert (fourth.state.status, fourth.outcome["run"]) == (TaskStatus.COMPLETED, 1)


def test_more_tasks_than_one_call_reads(shop: Shop) -> None:
    ids = shop.broker.submit([shop.new() for _ in range(600)])
    assert [stored.id for stored in shop.broker.read(ids)] == ids
    assert shop.broker.read([]) == []


def test_outcomes_of_every_run(shop: Shop) -> None:
    task_id = shop.ended()
    shop.broker.requeue(task_id)
    shop.claim(task_id)
    shop.settle(task_id, TaskStatus.COMPLETED)
    assert [outcome["run"] for outcome in shop.broker.outcomes(task_id)] == [1, 2]
    assert shop.broker.outcomes("0" * 19) == []


def test_queue_stats(shop: Shop) -> None:
    assert shop.broker.queue_stats() == []
    for priority in TaskPriority:
        for _ in range(priority + 1):
            shop.submit("b", priority)
    shop.claimed("a")
    shop.broker.pause("a")
    empty, full = shop.broker.queue_stats()
    assert empty == {"queue": "a", "paused": True, "queued": {"URGENT": 0, "HIGH": 0, "NORMAL": 0, "LOW": 0},
                     "oldest_s": None, "oldest_s_by_priority": {}, "aside": {}}
    assert 0 <= full["oldest_s"] < 60
    assert max(full.pop("oldest_s_by_priority").values()) == full.pop("oldest_s")
    assert full == {"queue": "b", "paused": False, "queued": {"URGENT": 4, "HIGH": 3, "NORMAL": 2, "LOW": 1},
                    "aside": {}}


def test_status_counts_and_counters(shop: Shop) -> None:
    for _ in (shop.submit(), shop.submit("x"), shop.pending(), shop.retrying(), shop.retrying(), shop.claimed(),
              shop.ended(TaskStatus.TIMEOUT)):
        pass
    assert shop.broker.status_counts() == {
        "PENDING": 1, "QUEUED": 2, "RUNNING": 1, "RETRYING": 2, "COMPLETED": 0, "FAILED": 0, "CANCELLED": 0,
        "TIMEOUT": 1}
    assert shop.broker.counters() == {"submitted": 7}


def test_supervisors_and_processes(shop: Shop) -> None:
    shop.claimed(supervisor="alive")
    shop.claimed(supervisor="silent", lease_ms=-1)
    shop.client.hset(P + "reports", mapping={"alive": b'{"host":"h","pid":7,"root_pid":6}', "old": b"{}"})
    one, two = sorted(shop.broker.supervisors(), key=lambda told: told["supervisor"])
    assert (one["supervisor"], one["alive"], one["host"], one["pid"]) == ("alive", True, "h", 7)
    assert (two["supervisor"], two["alive"]) == ("silent", False)

    assert shop.broker.processes() == []
    shop.keeper.publish_processes("h", 6, {7: {"rss": 1}, 8: {"rss": 2}})
    assert shop.broker.processes() == [{"host": "h", "root_pid": 6, "pid": 7, "rss": 1},
                                       {"host": "h", "root_pid": 6, "pid": 8, "rss": 2}]
    assert 0 < shop.client.pttl(P + "processes:h:6") <= 10_000
    shop.keeper.publish_processes("h", 6, {8: {"rss": 3}}, for_s=120)
    assert [told["pid"] for told in shop.broker.processes()] == [8]
    assert 10_000 < shop.client.pttl(P + "processes:h:6") <= 120_000
    shop.keeper.publish_processes("h", 6, {})
    assert shop.broker.processes() == []


def test_engines_on_hosts_of_one_name_do_not_write_over_each_other(shop: Shop) -> None:
    for name, root_pid in (("one", 6), ("other", 60)):
        shop.claimed(supervisor=name)
        shop.client.hset(P + "reports", name, orjson.dumps({"host": "h", "root_pid": root_pid}))
        shop.keeper.publish_processes("h", root_pid, {root_pid: {}})
    assert [told["pid"] for told in shop.broker.processes()] == [6, 60]


def test_the_history_is_of_the_last_hour_and_the_newest_comes_first(shop: Shop) -> None:
    entries = [orjson.dumps({"at_ms": at_ms, "rows": {}}) for at_ms in range(ENTRIES_MAX + 2)]
    for entry in entries:
        shop.keeper.publish_processes("h", 6, {}, entry)
    told = shop.broker.history("h", 6)
    assert [one["at_ms"] for one in told] == list(range(ENTRIES_MAX + 1, 1, -1))
    assert 0 < shop.client.pttl(P + "history:h:6") <= 3_600_000
    shop.client.lpush(P + "history:h:6", b"nonsense", b'{"at_ms":"x","rows":{}}', b'{"at_ms":1}')
    assert [one["at_ms"] for one in shop.broker.history("h", 6, limit=4)] == [ENTRIES_MAX + 1]
    assert shop.broker.history("h", 7) == []


def test_log_from_a_row_on(shop: Shop) -> None:
    task_id = shop.claimed()
    shop.client.rpush(P + "log:" + task_id, *(orjson.dumps(
        {"at_ms": n, "run": 1, "stream": "stdout", "level": None, "text": str(n)}) for n in range(5)))
    assert [row["text"] for row in shop.broker.log(task_id, 3)] == ["3", "4"]
    assert shop.broker.log("0" * 19) == []


def test_handlers(shop: Shop) -> None:
    assert shop.broker.handlers() == {}
    shop.client.hset(P + "handlers", "thumbnail", b'{"queue":"images"}')
    assert shop.broker.handlers() == {"thumbnail": {"queue": "images"}}


def test_info(shop: Shop) -> None:
    info = shop.broker.info()
    assert info["version"].split(".")[0] in ("6", "7", "8", "9")
    assert (info["role"], info["aof_enabled"], info["aof_ok"]) == ("master", False, True)
    assert abs(info["skew_ms"]) < 1000


def test_poll(shop: Shop) -> None:
    polled = shop.keeper.poll("one", shop.now_ms + HOUR_MS)
    assert polled.leads
    assert {polled.due_ms, polled.expires_ms, polled.removal_ms} == {float("inf")}
    shop.pending(due_ms=HOUR_MS, expires_ms=shop.now_ms + 2 * HOUR_MS)
    shop.ended(kept_ms=3 * HOUR_MS)
    polled = shop.keeper.poll("two", shop.now_ms + HOUR_MS)
    assert not polled.leads
    assert shop.now_ms < polled.due_ms < polled.expires_ms < polled.removal_ms
    assert polled.leases == shop.keeper.leases()
    assert shop.now_ms < polled.leases["sup"]
