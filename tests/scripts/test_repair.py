"""The four contradictions: found, mended, counted and told, by the keeper on its rounds and by the doctor on demand."""

import logging
from collections.abc import Callable, Iterable

import pytest

from engine.cli.doctor import repair as doctor
from engine.config import load_settings
from engine.core.task.lifecycle import TaskStatus
from engine.services.keeper.duties.audit import Audit
from engine.services.keeper.duty_list import make_rounds
from engine.services.keeper.reports import SupervisorReports
from tests.scripts.broker_rig import BrokerRig

P = "ganger:{0}:"
NOBODY = "0" * 19
LEASE_S = 15.0


class Nobody:
    def gone(self, now_s: float, supervisors: Iterable[str]) -> list[str]:
        return []


def contradict(rig: BrokerRig) -> dict[str, str]:
    """One of each kind; their tasks by kind."""
    held = rig.claimed()
    rig.client.srem(P + "running:sup", held)
    rig.client.sadd(P + "running:sup", NOBODY)
    rig.client.zadd(P + "lane:q:HIGH", {NOBODY: 1})
    rig.client.zadd(P + "round_robin:HIGH", {"q": 1})
    queued = rig.submit()
    rig.client.zrem(P + "lane:q:NORMAL", queued)
    orphan = rig.claimed(supervisor="buried")
    rig.client.zrem(P + "supervisors", "buried")
    return {"held": held, "queued": queued, "orphan": orphan}


def check_that_all_is_well(rig: BrokerRig, tasks: dict[str, str]) -> None:
    assert rig.client.smembers(P + "running:sup") == {tasks["held"].encode()}
    assert rig.client.zscore(P + "lane:q:HIGH", NOBODY) is None
    line = rig.client.zrange(P + "lane:q:NORMAL", 0, -1)
    assert sorted(line) == sorted(tasks[name].encode() for name in ("queued", "orphan"))
    assert rig.state(tasks["orphan"]).status is TaskStatus.QUEUED
    assert rig.broker.counters()["mended"] == 5


def by_the_keeper(rig: BrokerRig, caplog: pytest.LogCaptureFixture) -> dict[str, int]:
    rounds = make_rounds("keeper", rig.keeper, SupervisorReports(list), Nobody(), LEASE_S)  # type: ignore[arg-type]
    with caplog.at_level(logging.ERROR, "ganger.errors"):
        rounds.go()
        audit = next(duty for duty in rounds.duties if isinstance(duty, Audit))
        while audit.is_under_way:
            rounds.go()
    told = [record for record in caplog.records if record.message == "Redis contradicted itself and was mended"]
    kinds = ("held", "set", "zset", "line")
    return {kind: sum(getattr(record, kind, 0) for record in told) for kind in kinds}


def repaired(rig: BrokerRig) -> list[str]:
    settings = load_settings({"redis_url": rig.broker.redis.url}).settings
    return [finding.detail for finding in doctor.repair(settings)]


def by_the_doctor(rig: BrokerRig, caplog: pytest.LogCaptureFixture) -> dict[str, int]:
    details = repaired(rig)
    words = {text: what for what, text in doctor._REPAIRED.items()}
    counted = [detail.partition(" ")[::2] for detail in details]
    assert details[-1].endswith("5 mended")
    return {words[text]: int(count) for count, text in counted if text in words}


Mending = Callable[[BrokerRig, pytest.LogCaptureFixture], dict[str, int]]


@pytest.mark.parametrize("mend", [by_the_keeper, by_the_doctor])
def test_each_kind_is_found_mended_counted_and_told(rig: BrokerRig, caplog: pytest.LogCaptureFixture,
                                                    mend: Mending) -> None:
    tasks = contradict(rig)
    assert mend(rig, caplog) == {"held": 2, "set": 1, "zset": 1, "line": 1}
    check_that_all_is_well(rig, tasks)


def test_the_doctor_takes_over_from_a_supervisor_that_nobody_hears_of(rig: BrokerRig,
                                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_WATCH_S", 0.05)
    silent, alive = rig.claimed(supervisor="silent", lease_ms=-1), rig.claimed(supervisor="alive")
    details = repaired(rig)
    assert "1 runs taken over from silent, whose lease is over" in details
    assert [rig.state(task_id).status for task_id in (silent, alive)] == [TaskStatus.QUEUED, TaskStatus.RUNNING]
