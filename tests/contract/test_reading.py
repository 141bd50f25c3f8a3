"""What the broker tells of queues, supervisors, processes, logs and Redis."""

import orjson

from engine.core.measure.usage_history import ENTRIES_MAX
from engine.core.task.lifecycle import TaskStatus
from engine.core.task.priority import TaskPriority
from tests.scripts.broker_rig import HOUR_MS, PAYLOAD, BrokerRig

P = "ganger:{0}:"


def test_a_task_as_it_is_stored(rig: BrokerRig) -> None:
    running = rig.claimed(name="cover")
    rig.client.hset(P + "progress", running, b'{"fraction":0.5}')
    queued, ended = rig.submit(priority=TaskPriority.HIGH), rig.ended(TaskStatus.COMPLETED)
    first, second, third, fourth = rig.broker.read([running, "0" * 19, queued, ended])
    assert (first.record.payload, first.record.options, first.progress) == (
        PAYLOAD, {"name": "cover"}, {"fraction": 0.5})
    assert (first.state.status, first.state.run, first.state.owner) == (TaskStatus.RUNNING, 1, "sup")
    assert first.outcome is None
    assert second is None
    assert (third.state.status, third.state.run, third.state.priority) == (TaskStatus.QUEUED, 0, TaskPriority.HIGH)
    assert (fourth.state.status, fourth.outcome["run"]) == (TaskStatus.COMPLETED, 1)


def test_more_tasks_than_one_call_reads(rig: BrokerRig) -> None:
    ids = rig.broker.submit([rig.new() for _ in range(600)])
    assert [stored.id for stored in rig.broker.read(ids)] == ids
    assert rig.broker.read([]) == []


def test_outcomes_of_every_run(rig: BrokerRig) -> None:
    task_id = rig.ended()
    rig.broker.requeue(task_id)
    rig.claim(task_id)
    rig.settle(task_id, TaskStatus.COMPLETED)
    assert [outcome["run"] for outcome in rig.broker.outcomes(task_id)] == [1, 2]
    assert rig.broker.outcomes("0" * 19) == []


def test_queue_stats(rig: BrokerRig) -> None:
    assert rig.broker.queue_stats() == []
    for priority in TaskPriority:
        for _ in range(priority + 1):
            rig.submit("b", priority)
    rig.claimed("a")
    rig.broker.pause("a")
    empty, full = rig.broker.queue_stats()
    assert empty == {"queue": "a", "paused": True, "queued": {"URGENT": 0, "HIGH": 0, "NORMAL": 0, "LOW": 0},
                     "oldest_s": None, "oldest_s_by_priority": {}, "aside": {}}
    assert 0 <= full["oldest_s"] < 60
    assert max(full.pop("oldest_s_by_priority").values()) == full.pop("oldest_s")
    assert full == {"queue": "b", "paused": False, "queued": {"URGENT": 4, "HIGH": 3, "NORMAL": 2, "LOW": 1},
                    "aside": {}}


def test_status_counts_and_counters(rig: BrokerRig) -> None:
    for _ in (rig.submit(), rig.submit("x"), rig.pending(), rig.retrying(), rig.retrying(), rig.claimed(),
              rig.ended(TaskStatus.TIMEOUT)):
        pass
    assert rig.broker.status_counts() == {
        "PENDING": 1, "QUEUED": 2, "RUNNING": 1, "RETRYING": 2, "COMPLETED": 0, "FAILED": 0, "CANCELLED": 0,
        "TIMEOUT": 1}
    assert rig.broker.counters() == {"submitted": 7}


def test_supervisors_and_processes(rig: BrokerRig) -> None:
    rig.claimed(supervisor="alive")
    rig.claimed(supervisor="silent", lease_ms=-1)
    rig.client.hset(P + "reports", mapping={"alive": b'{"host":"h","pid":7,"root_pid":6}', "old": b"{}"})
    one, two = sorted(rig.broker.supervisors(), key=lambda told: told["supervisor"])
    assert (one["supervisor"], one["alive"], one["host"], one["pid"]) == ("alive", True, "h", 7)
    assert (two["supervisor"], two["alive"]) == ("silent", False)

    assert rig.broker.processes() == []
    rig.keeper.publish_processes("h", 6, {7: {"rss": 1}, 8: {"rss": 2}})
    assert rig.broker.processes() == [{"host": "h", "root_pid": 6, "pid": 7, "rss": 1},
                                       {"host": "h", "root_pid": 6, "pid": 8, "rss": 2}]
    assert 0 < rig.client.pttl(P + "processes:h:6") <= 10_000
    rig.keeper.publish_processes("h", 6, {8: {"rss": 3}}, for_s=120)
    assert [told["pid"] for told in rig.broker.processes()] == [8]
    assert 10_000 < rig.client.pttl(P + "processes:h:6") <= 120_000
    rig.keeper.publish_processes("h", 6, {})
    assert rig.broker.processes() == []


def test_engines_on_hosts_of_one_name_do_not_write_over_each_other(rig: BrokerRig) -> None:
    for name, root_pid in (("one", 6), ("other", 60)):
        rig.claimed(supervisor=name)
        rig.client.hset(P + "reports", name, orjson.dumps({"host": "h", "root_pid": root_pid}))
        rig.keeper.publish_processes("h", root_pid, {root_pid: {}})
    assert [told["pid"] for told in rig.broker.processes()] == [6, 60]


def test_the_history_is_of_the_last_hour_and_the_newest_comes_first(rig: BrokerRig) -> None:
    entries = [orjson.dumps({"at_ms": at_ms, "rows": {}}) for at_ms in range(ENTRIES_MAX + 2)]
    for entry in entries:
        rig.keeper.publish_processes("h", 6, {}, entry)
    told = rig.broker.history("h", 6)
    assert [one["at_ms"] for one in told] == list(range(ENTRIES_MAX + 1, 1, -1))
    assert 0 < rig.client.pttl(P + "history:h:6") <= 3_600_000
    rig.client.lpush(P + "history:h:6", b"nonsense", b'{"at_ms":"x","rows":{}}', b'{"at_ms":1}')
    assert [one["at_ms"] for one in rig.broker.history("h", 6, limit=4)] == [ENTRIES_MAX + 1]
    assert rig.broker.history("h", 7) == []


def test_log_from_a_row_on(rig: BrokerRig) -> None:
    task_id = rig.claimed()
    rig.client.rpush(P + "log:" + task_id, *(orjson.dumps(
        {"at_ms": n, "run": 1, "stream": "stdout", "level": None, "text": str(n)}) for n in range(5)))
    assert [row["text"] for row in rig.broker.log(task_id, 3)] == ["3", "4"]
    assert rig.broker.log("0" * 19) == []


def test_handlers(rig: BrokerRig) -> None:
    assert rig.broker.handlers() == {}
    rig.client.hset(P + "handlers", "thumbnail", b'{"queue":"images"}')
    assert rig.broker.handlers() == {"thumbnail": {"queue": "images"}}


def test_info(rig: BrokerRig) -> None:
    info = rig.broker.info()
    assert info["version"].split(".")[0] in ("6", "7", "8", "9")
    assert (info["role"], info["aof_enabled"], info["aof_ok"]) == ("master", False, True)
    assert abs(info["skew_ms"]) < 1000


def test_poll(rig: BrokerRig) -> None:
    polled = rig.keeper.poll("one", rig.now_ms + HOUR_MS)
    assert polled.leads
    assert {polled.due_ms, polled.expires_ms, polled.removal_ms} == {float("inf")}
    rig.pending(due_ms=HOUR_MS, expires_ms=rig.now_ms + 2 * HOUR_MS)
    rig.ended(kept_ms=3 * HOUR_MS)
    polled = rig.keeper.poll("two", rig.now_ms + HOUR_MS)
    assert not polled.leads
    assert rig.now_ms < polled.due_ms < polled.expires_ms < polled.removal_ms
    assert polled.leases == rig.keeper.leases()
    assert rig.now_ms < polled.leases["sup"]
