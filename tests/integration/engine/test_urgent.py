"""Runs that stand still for urgent ones, and pools that change their size, on a whole engine."""

import itertools
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from typer.testing import CliRunner

from engine.cli.app import app
from engine.client import Client
from engine.core.task.lifecycle import TaskStatus
from engine.scheduler import Scheduler
from tests.redis_server import RedisServer, binaries

WAIT_S = 40
STOOD_S = 3.0  # more than the timeout of the run that stands still for so long
_numbers = itertools.count()


class Held:
    """A task that goes on until it is let go; `pids` are its worker and what it has started."""

    def __init__(self, engine: Scheduler, folder: Path, task_type: str, priority: str, **options: Any) -> None:
        self.engine, self.task_type = engine, task_type
        name = f"{task_type}{next(_numbers)}"
        self.begun, self.end = folder / name, folder / f"{name}.end"
        if task_type == "hold":
            os.mkfifo(self.end)
        self.id = engine.client.submit(task_type, {"begun": str(self.begun), "end": str(self.end)}, priority=priority,
                                       **options)

    def await_begun(self) -> "Held":
        until(self.begun.exists)
        self.pids = [int(pid) for pid in self.begun.read_text().split()]
        return self

    def let_go(self) -> None:
        self.end.write_text("let go")

    def ended(self) -> Any:
        return self.engine.client.wait([self.id], timeout=WAIT_S)[0]

    def slot(self) -> dict[str, Any]:
        """Where it is by the latest report; {} if it is in none."""
        return next((slot for report in self.engine.client.workers() for slot in report.get("slots", [])
                     if (slot["task"] or {}).get("id") == self.id), {})

    @property
    def stands_still(self) -> bool:
        return all(psutil.Process(pid).status() == psutil.STATUS_STOPPED for pid in self.pids)


@pytest.fixture(scope="module")
def engine() -> Iterator[Scheduler]:
    server = RedisServer(binaries()[0])
    scheduler = Scheduler(redis_url=server.url, handlers=["tests.integration.engine.urgent_handlers"], max_workers=2)
    scheduler.start()
    yield scheduler
    scheduler.stop(grace_s=0)
    server.stop()


def until(true: Callable[[], Any]) -> Any:
    until_s = time.monotonic() + WAIT_S
    while not (found := true()):
        assert time.monotonic() < until_s
    return found


def ganger(engine: Scheduler, *arguments: str) -> str:
    done = CliRunner().invoke(app, [*arguments, "--redis-url", engine.client.settings.redis_url])
    assert done.exit_code == 0, done.output
    return done.stdout


def saturated(engine: Scheduler, folder: Path, **options: Any) -> list[Held]:
    """A LOW run on each of the two workers."""
    return [Held(engine, folder, "spin", "LOW", **options).await_begun() for _ in range(2)]


def the_frozen_one(runs: list[Held]) -> Held:
    return until(lambda: next((run for run in runs if run.stands_still), None))


def test_a_run_stands_still_and_goes_on_with_its_own_time(engine: Scheduler, tmp_path: Path) -> None:
    runs = saturated(engine, tmp_path, timeout=STOOD_S)
    urgent = Held(engine, tmp_path, "hold", "URGENT").await_begun()
    frozen = the_frozen_one(runs)
    other = next(run for run in runs if run is not frozen)
    assert not other.stands_still
    other.let_go()  # before its timeout; the place that is free now is for the frozen one
    until(lambda: not frozen.stands_still)
    third = Held(engine, tmp_path, "hold", "URGENT").await_begun()
    until(lambda: frozen.stands_still)
    until(lambda: frozen.slot().get("frozen") and frozen.slot()["task"]["stood_s"] > STOOD_S)
    slot = frozen.slot()
    assert (slot["state"], slot["has_place"], slot["task"]["priority"]) == ("frozen", False, "LOW")
    assert "frozen" in ganger(engine, "workers")
    frozen.let_go()  # as soon as it goes on
    assert engine.client.status(frozen.id) is TaskStatus.RUNNING
    third.let_go()
    task = frozen.ended()
    assert (task.status, task.run, task.result["is_thousands"]) == (TaskStatus.COMPLETED, 1, True)
    assert task.result["elapsed_s"] > STOOD_S > task.wall_s
    assert abs(STOOD_S - task.wall_s - task.result["left_s"]) < 0.5, "it knows how much time it has left"
    urgent.let_go()
    assert [run.ended().result for run in (urgent, third)] == ["let go", "let go"]
    assert other.ended().run == 1


def test_one_that_stands_still_can_be_cancelled(engine: Scheduler, tmp_path: Path) -> None:
    runs = saturated(engine, tmp_path)
    urgent = Held(engine, tmp_path, "hold", "URGENT").await_begun()
    frozen = the_frozen_one(runs)
    engine.client.cancel(frozen.id)
    assert frozen.ended().status is TaskStatus.CANCELLED
    assert Path(f"{frozen.begun}.interrupted").exists(), "it was told, and could clean up"
    until(lambda: not any(psutil.pid_exists(pid) for pid in frozen.pids[1:]))
    assert engine.client.status(urgent.id) is TaskStatus.RUNNING
    urgent.let_go()
    for run in runs:
        run.let_go()
        run.ended()


def test_one_that_stands_still_can_die(engine: Scheduler, tmp_path: Path) -> None:
    runs = saturated(engine, tmp_path)
    urgent = Held(engine, tmp_path, "hold", "URGENT").await_begun()
    frozen = the_frozen_one(runs)
    until(lambda: frozen.slot().get("frozen"))
    os.kill(frozen.pids[0], signal.SIGKILL)
    until(lambda: engine.client.get(frozen.id).crashes)
    until(lambda: not any(psutil.pid_exists(pid) for pid in frozen.pids))
    first = engine.client.outcomes(frozen.id)[0]
    assert first["cause"] == "killed"
    assert first["wall_s"] < (first["ended_ms"] - first["started_ms"]) / 1000
    for run in (urgent, *runs):
        run.let_go()
    assert frozen.ended().run == 2


def test_one_that_stands_still_can_be_ended_by_us(engine: Scheduler, tmp_path: Path) -> None:
    """A fresh worker is asked for in its place at once: its run is given back at no cost, and run again."""
    runs = saturated(engine, tmp_path)
    urgent = Held(engine, tmp_path, "hold", "URGENT").await_begun()
    frozen = the_frozen_one(runs)
    slot = until(lambda: frozen.slot().get("frozen") and frozen.slot())["slot"]
    with Client(settings=engine.client.settings) as client:
        supervisor = client.workers()[0]["supervisor"]
        assert client.workers.send(supervisor, {"do": "stack", "slot": slot})
        assert client.workers.send(supervisor, {"do": "restart", "slot": slot, "at_once": True})
    until(lambda: not any(psutil.pid_exists(pid) for pid in frozen.pids))
    for run in (urgent, *runs):
        run.let_go()
    task = frozen.ended()
    assert (task.status, task.run, task.crashes, task.attempts) == (TaskStatus.COMPLETED, 2, 0, 0)


def test_nobody_stands_still_who_must_not(engine: Scheduler, tmp_path: Path) -> None:
    pinned, spin = (Held(engine, tmp_path, task_type, "LOW").await_begun() for task_type in ("pinned", "spin"))
    first = Held(engine, tmp_path, "hold", "URGENT").await_begun()
    assert the_frozen_one([pinned, spin]) is spin
    second = Held(engine, tmp_path, "hold", "URGENT")
    asked_ms = max(report["at_ms"] for report in engine.client.workers())
    until(lambda: max(report["at_ms"] for report in engine.client.workers()) > asked_ms + 1500)  # two steps at least
    assert engine.client.status(second.id) is TaskStatus.QUEUED
    assert not pinned.stands_still
    first.let_go()
    second.await_begun().let_go()
    for run in (pinned, spin):
        run.let_go()
        assert run.ended().run == 1


def test_a_pool_grows_and_shrinks_under_load_and_loses_nothing(engine: Scheduler, tmp_path: Path) -> None:
    long = Held(engine, tmp_path, "spin", "HIGH").await_begun()
    ids = engine.client.submit_many([{"task_type": "short", "payload": number} for number in range(1500)])
    with Client(settings=engine.client.settings) as client:
        for workers in (5, 1, 4, 2, 3):
            assert client.engine.control({"do": "scale", "workers": workers, "pool": "default"}) == 1
            until(lambda workers=workers: [report.get("workers") for report in client.workers()] == [workers])
    tasks = engine.client.wait(ids, timeout=WAIT_S)
    assert [task.result for task in tasks] == list(range(1500))
    assert {(task.attempts, task.crashes) for task in tasks} == {(0, 0)}, "what was given back cost nothing"
    long.let_go()
    assert (long.ended().run, long.ended().status) == (1, TaskStatus.COMPLETED)
    assert ganger(engine, "scale", "2").strip().endswith("3 -> 2 workers")
    until(lambda: len([slot for slot in engine.client.workers()[0]["slots"] if slot["state"] == "idle"]) == 2)


def test_scale_says_what_is_wrong(engine: Scheduler) -> None:
    for asked in ("0", "1025", "many", "٣"):
        done = CliRunner().invoke(app, ["scale", asked, "--redis-url", engine.client.settings.redis_url])
        assert done.exit_code == 2, asked
        assert "from 1 to 1024, or auto" in done.output
    done = CliRunner().invoke(app, ["scale", "2", "--pool", "none", "--redis-url", engine.client.settings.redis_url])
    assert done.exit_code == 1
    assert "no pool 'none' is running" in done.output


def test_a_pool_that_is_killed_takes_what_stands_still_with_it(engine: Scheduler, tmp_path: Path) -> None:
    """And its successor has as many workers as the pool was told to have."""
    assert ganger(engine, "scale", "2")
    runs = saturated(engine, tmp_path)
    urgent = Held(engine, tmp_path, "hold", "URGENT").await_begun()
    frozen = the_frozen_one(runs)
    os.kill(engine.client.workers()[0]["pid"], signal.SIGKILL)
    until(lambda: not any(psutil.pid_exists(pid) for run in (*runs, urgent) for pid in run.pids))
    for run in runs:
        run.let_go()
    urgent.let_go()  # waits for the second run to read it
    assert {run.ended().status for run in (*runs, urgent)} == {TaskStatus.COMPLETED}
    assert frozen.ended().run == 2
    assert [report["workers"] for report in engine.client.workers() if report["alive"]] == [2]


def test_the_automatic_mode_takes_workers_on_while_tasks_wait(engine: Scheduler, tmp_path: Path) -> None:
    psutil.cpu_percent()
    if psutil.cpu_percent(1.0) > 60:
        pytest.skip("other programs use the processors of this host, where the automatic mode takes nobody on")
    assert "as the load asks for" in ganger(engine, "scale", "auto")
    runs = [Held(engine, tmp_path, "hold", "NORMAL") for _ in range(3)]
    for run in runs:
        run.await_begun()
    assert until(lambda: engine.client.workers()[0]["workers"] >= 3)
    assert "workers" in ganger(engine, "scale", "2")
    for run in runs:
        run.let_go()
    assert {run.ended().run for run in runs} == {1}
