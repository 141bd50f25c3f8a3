"""Limits, quarantine and what is told of them, on a whole engine."""

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from typer.testing import CliRunner

from engine.cli.app import app
from engine.core.task.lifecycle import TaskStatus
from engine.core.task.limits import MIB
from engine.scheduler import Scheduler
from tests.redis_server import RedisServer, binaries

WAIT_S = 40


@pytest.fixture(scope="module")
def engine() -> Iterator[Scheduler]:
    server = RedisServer(binaries()[0])
    scheduler = Scheduler(redis_url=server.url, handlers=["tests.integration.process.limit_handlers"], max_workers=2,
                          handler_intensity=5, handler_period_s=20, handler_pause_s=1.5)
    scheduler.start()
    yield scheduler
    scheduler.stop()
    server.stop()


def ended(engine: Scheduler, task_type: str, payload: Any = None, **options: Any) -> Any:
    return engine.client.wait([engine.client.submit(task_type, payload, **options)], timeout=WAIT_S)[0]


def ganger(engine: Scheduler, *arguments: str) -> str:
    done = CliRunner().invoke(app, [*arguments, "--redis-url", engine.client.settings.redis_url])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_a_task_over_its_memory_is_run_again_with_more(engine: Scheduler) -> None:
    task = ended(engine, "hungry")
    assert (task.status, task.result, task.run, task.crashes) == (TaskStatus.COMPLETED, 200 * MIB, 2, 1)
    first = engine.client.outcomes(task.id)[0]
    assert first["cause"] == "out_of_memory"
    assert "over its max_memory of 120.0 MiB" in first["error"]["message"]
    assert first["post_mortem"]["usage"]["limits"] == {"max_memory": 120 * MIB}
    assert first["post_mortem"]["sender"] == "supervisor"


def test_a_task_that_keeps_costing_workers_is_quarantined_with_its_evidence(engine: Scheduler) -> None:
    task = ended(engine, "glutton")
    assert (task.status, task.cause, task.run, task.crashes) == (TaskStatus.FAILED, "out_of_memory", 2, 2)
    assert task.quarantined
    assert task.post_mortem["output"] == "begins to eat\nand goes round Python"
    other = ended(engine, "noop")
    assert task.id in ganger(engine, "tasks", "--quarantined")
    assert other.id not in ganger(engine, "tasks", "--quarantined")
    told = ganger(engine, "status", task.id)
    assert told.count("in glutton") == 2  # the stacks of both runs
    assert "run 1" in told
    assert ganger(engine, "retry", "--quarantined").strip() == "1 queued again"
    assert engine.client.wait([task.id], timeout=WAIT_S)[0].run == 4
    assert json.loads(ganger(engine, "status", task.id, "--json"))["quarantined"]


def test_a_death_by_an_unknown_hand_is_no_lack_of_memory(engine: Scheduler) -> None:
    task = ended(engine, "die")
    assert (task.cause, task.quarantined, task.post_mortem["sender"]) == ("killed", True, "unknown")


@pytest.mark.parametrize(("task_type", "payload", "options", "status", "cause"), [
    ("burn", {}, {"max_cpu_seconds": 0.3}, "TIMEOUT", "cpu_time"),
    ("multiply", {"children": 3, "hold_s": 30}, {"max_processes": 3, "max_retries": 0}, "FAILED", "processes"),
    ("grow_below", {"mib": 400}, {"max_memory": "100M", "max_deliveries": 1}, "FAILED", "out_of_memory"),
])
def test_a_task_may_have_limits_of_its_own(engine: Scheduler, task_type: str, payload: Any, options: dict[str, Any],
                                           status: str, cause: str) -> None:
    task = ended(engine, task_type, payload, **options)
    assert (task.status, task.cause) == (status, cause)
    assert "stacks" in task.post_mortem  # empty where the machine is too busy to give them within their deadline


def test_how_far_a_run_was_that_timed_out_is_kept(engine: Scheduler) -> None:
    task = ended(engine, "rest", {"hold_s": 60}, timeout=0.5)
    assert (task.status, task.progress.message) == (TaskStatus.TIMEOUT, "here")
    assert ganger(engine, "status", task.id).count("here") == 1


def test_limits_are_flags_of_submit(engine: Scheduler) -> None:
    ours = os.getpriority(os.PRIO_PROCESS, 0)
    told = ganger(engine, "submit", "niceness", "--nice", str(ours + 5), "--max-memory", "1G", "--max-cpu-seconds", "9",
                  "--max-processes", "5", "--wait")
    assert json.loads(told) == [ours + 5] * 2
    assert ended(engine, "niceness").result == [ours] * 2  # nobody else's run is nice for it
    done = CliRunner().invoke(app, ["submit", "noop", "--max-memory", "lots",
                                    "--redis-url", engine.client.settings.redis_url])
    assert done.exit_code == 2
    assert "max_memory 'lots'" in done.output


def test_a_handler_that_keeps_killing_workers_is_stopped_for_a_while_and_no_other(engine: Scheduler) -> None:
    client = engine.client
    ids = client.submit_many([{"task_type": "crash"} for _ in range(12)])
    held = next(task for task in polled(lambda: client.tasks(task_type="crash", status="RETRYING")))
    assert held.cause == "handler_stopped"
    assert held.error.message.startswith("not started: 'crash' has cost 6 workers")
    assert ended(engine, "noop").status is TaskStatus.COMPLETED
    told = polled(lambda: [stop for report in client.workers() for stop in report.get("stopped", [])])
    assert (told[0]["task_type"], told[0]["deaths"]) == ("crash", 6)
    assert {task.cause for task in client.wait(ids, timeout=WAIT_S)} == {"killed"}
    assert {task.crashes for task in client.wait(ids, timeout=WAIT_S)} == {1}


def polled(look: Callable[[], Any]) -> Any:
    """What there is to see, as soon as there is anything."""
    until_s = time.monotonic() + WAIT_S
    while not (found := look()):
        assert time.monotonic() < until_s
    return found


def test_a_thousand_recycles_under_load_lose_nothing() -> None:
    """Each worker is replaced after five tasks, and there is always one that can run the next."""
    server = RedisServer(binaries()[0])
    with Scheduler(redis_url=server.url, handlers=["tests.integration.process.limit_handlers"], max_workers=2,
                   worker_tasks_max=5) as scheduler:
        scheduler.start()
        ids = scheduler.client.submit_many([{"task_type": "whoami", "payload": number} for number in range(5000)])
        tasks = scheduler.client.wait(ids, timeout=WAIT_S)
        assert [task.result["payload"] for task in tasks] == list(range(5000))
        # On a busy machine a claimed run may find no worker for a while, and be given back at nobody's cost.
        assert {(task.attempts, task.crashes) for task in tasks} == {(0, 0)}
        served = Counter(task.result["pid"] for task in tasks)
        assert max(served.values()) == 5
        assert len(served) >= 1000
    server.stop()
