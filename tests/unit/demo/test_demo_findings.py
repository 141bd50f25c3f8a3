"""The demo's decisions: which tasks, what the findings make of their ends, how the summary reads."""

import io
import sysconfig
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import ganger_handlers.misbehaving
import pytest
from rich.console import Console

import engine
from engine.client.models import Task, TaskError
from engine.core.task.lifecycle import TaskStatus
from engine.core.task.priority import TaskPriority
from engine.demo.findings import DemoFindings, Process, findings, user_frames
from engine.demo.progress import Tally
from engine.demo.summary import as_json, show
from engine.demo.tasks import MISBEHAVING, MODULES, DemoTask, choose_demo_tasks
from engine.tasks.handler_spec import REGISTRY

HANDLER = ganger_handlers.misbehaving.__file__
WORKER = Path(engine.__file__).parent / "adapters" / "process" / "worker" / "process.py"
SEGFAULT = f"""\
Fatal Python error: Segmentation fault

Thread 0x00007f0000000001 (most recent call first):
  File "/usr/lib/python3.11/threading.py", line 320 in wait
  File "{WORKER}", line 7 in capture
  File "/usr/lib/python3.11/threading.py", line 995 in _bootstrap

Current thread 0x00007f0000000002 (most recent call first):
  File "/usr/lib/python3.11/ctypes/__init__.py", line 519 in string_at
  File "{HANDLER}", line 1 in segfault
  File "{WORKER}", line 99 in call
  File "/usr/lib/python3.11/runpy.py", line 86 in _run_code
"""


def ended(planned: DemoTask, **facts: Any) -> Task:
    """A task that ended as its planned foresees."""
    common: dict[str, Any] = {"id": "0", "queue": "default", "priority": TaskPriority.NORMAL, "cause": "returned",
                              "created_at": datetime.now(UTC), "run": 1, "wall_s": 0.1, "cpu_s": 0.1, "pid": 7}
    given = {"task_type": planned.task_type, "payload": planned.payload, "status": planned.end}
    return Task(**{**common, **given, **facts})


def found_of(*pairs: tuple[DemoTask, dict[str, Any]]) -> DemoFindings:
    tasks = [ended(planned, **facts) for planned, facts in pairs]
    return findings([planned for planned, _ in pairs], tasks, elapsed_s=2, workers=2,
                    about={"misbehaving.segfault": "Reads address 0."})


def shown(found: DemoFindings, leftovers: tuple[str, ...] = ()) -> str:
    text = io.StringIO()
    show(Console(file=text, width=80, highlight=False), found, leftovers)
    return text.getvalue()


COMPLETED, FAILED, TIMEOUT = TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.TIMEOUT
FINE = DemoTask("analyse_source", {"path": "/x/y/argparse.py"})
HANG = DemoTask("misbehaving.hang_in_c", {}, {"timeout": 2}, TIMEOUT)
CRASH = DemoTask("misbehaving.segfault", {}, {}, FAILED)


def test_the_cast_is_real_and_always_the_same() -> None:
    demo_tasks = choose_demo_tasks(320)
    assert demo_tasks == choose_demo_tasks(320)
    assert len(demo_tasks) == 320 + len(MISBEHAVING)
    kinds = Counter(planned.task_type for planned in demo_tasks if not planned.misbehaves)
    assert kinds["analyse_source"] > kinds["compress"] > kinds["digest"] > 20
    library = Path(sysconfig.get_path("stdlib"))
    analysed = [planned for planned in demo_tasks if planned.task_type == "analyse_source"]
    assert all(library in Path(planned.payload["path"]).parents for planned in analysed)


def test_a_small_cast_has_all_that_misbehave() -> None:
    assert sum(planned.misbehaves for planned in choose_demo_tasks(1)) == len(MISBEHAVING)


def test_every_act_has_a_handler_in_the_modules_that_the_demo_loads() -> None:
    for module in MODULES:
        __import__(module)
    assert {planned.task_type for planned in choose_demo_tasks(100)} <= REGISTRY.keys()


def test_the_handlers_own_frames_are_found_in_the_stacks() -> None:
    frames = user_frames(SEGFAULT)
    assert [(frame.path.name, frame.function) for frame in frames] == [("__init__.py", "string_at"),
                                                                       ("misbehaving.py", "segfault")]
    assert frames[1].source.startswith('"""Every bad thing')


@pytest.mark.parametrize("stacks", ["", "nonsense", f'  File "{WORKER}", line 9 in main\n'])
def test_there_may_be_no_frames(stacks: str) -> None:
    assert user_frames(stacks) == []


def test_ends_are_told_apart() -> None:
    found = found_of(
        (FINE, {}),
        (HANG, {"cause": "timeout"}),
        (CRASH, {"cause": "killed", "post_mortem": {"stacks": SEGFAULT}}),
        (DemoTask("misbehaving.raise_error", end=FAILED), {"cause": "raised"}),
        (DemoTask("misbehaving.give_up", end=TaskStatus.CANCELLED), {"cause": "cancelled"}),
        (DemoTask("misbehaving.fail_then_succeed"), {"run": 3, "attempts": 2}),
    )
    counts = [len(tasks) for tasks in (found.completed, found.hung, found.crashed, found.failed, found.cancelled,
                                       found.retried)]
    assert counts == [2, 1, 1, 1, 1, 1]
    assert found.total == 6
    assert [kind.task_type for kind in found.kinds] == ["analyse_source"]
    assert found.unexpected == []


def test_an_end_that_nobody_expected_is_the_engines_fault() -> None:
    found = found_of((FINE, {"status": FAILED, "error": TaskError(kind="OSError", message="disk full")}),
                     (HANG, {"status": TaskStatus.RUNNING}))
    assert found.unexpected == ["analyse_source argparse.py is FAILED, not COMPLETED: OSError: disk full",
                                "misbehaving.hang_in_c is RUNNING, not TIMEOUT"]
    assert as_json(found, [])["ok"] is False
    assert "✗ misbehaving.hang_in_c is RUNNING" in shown(found)


def test_what_is_still_running_is_named() -> None:
    found = found_of((FINE, {}))
    assert as_json(found, [])["ok"] is True
    assert as_json(found, ["pool (pid 9)"])["ok"] is False
    assert "still running: pool (pid 9)" in shown(found, ("pool (pid 9)",))


def test_the_summary_fits_into_80_columns_and_names_what_matters() -> None:
    found = found_of(
        (FINE, {}),
        (HANG, {"cause": "timeout", "wall_s": 2.0}),
        (CRASH, {"cause": "killed", "error": TaskError(kind="WorkerKilled", message="killed by SIGSEGV"),
                 "post_mortem": {"stacks": SEGFAULT}}),
        (DemoTask("misbehaving.crash_then_succeed"), {"run": 4, "attempts": 1, "crashes": 2}),
    )
    found.processes.append(Process("worker 0", 4711, 1.5, 50 << 20, tasks=3))
    found.gone.append(Process("worker, killed in segfault", 4712, 0.5, 60 << 20, tasks=1))
    text = shown(found)
    assert max(map(len, text.splitlines())) <= 80
    for words in ("4 tasks ended in 2.0 s on 2 workers", "hang_in_c  killed after 2.0 s", "no stack: it did not answer",
                  "Reads address 0.", "→ ctypes/__init__.py:519 string_at", "4711",
                  "1 failure and 2 crashes, then COMPLETED in run 4", "All 4 tasks ended, each in the way it had to",
                  "ganger run --handlers", "ganger submit primes"):
        assert words in text


def test_the_tally_of_tasks_under_way() -> None:
    tasks = [ended(FINE), ended(FINE, status=TaskStatus.RUNNING), ended(HANG), ended(FINE, status=TaskStatus.QUEUED)]
    tally = Tally.of(tasks)
    assert (tally.ended, tally.running) == (2, ["analyse_source argparse.py"])
    assert tally.ends == "1 completed, 1 killed at their timeout"
