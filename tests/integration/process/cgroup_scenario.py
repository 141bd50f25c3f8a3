"""Run by test_cgroup.py: an engine's process side in the cgroup that is named, as if systemd had delegated it.

    python -m tests.integration.process.cgroup_scenario FOLDER

Prints what it saw as JSON.
"""

import json
import os
import select
import sys
import time
from pathlib import Path
from typing import Any

from engine.adapters.process.resources import cgroup
from engine.core.task.limits import MIB, Limits
from engine.ports.host import Exceeded, Exited
from tests.integration.process.host_kit import PATIENCE_S, Stage, is_alive


def main(folder: str) -> dict[str, Any]:
    Path(folder, "cgroup.procs").write_text(str(os.getpid()))
    taken = cgroup.take_over()
    seen: dict[str, Any] = {"taken": str(taken), "again": str(cgroup.take_over()), "own": str(cgroup.our_group()),
                            "controllers": cgroup.controllers(taken) if taken else None}
    stage = Stage("tests.integration.process.limit_handlers", dump_s=5.0)
    stage.start()
    pid = stage.up()
    seen["group_of_worker"] = _members(folder, pid)
    seen["cpu"] = over(stage, Limits(cpu_s=0.3), "burn")
    seen["processes"] = over(stage, Limits(processes=2), "multiply", children=4, hold_s=60)
    seen["left_alive"] = left_behind(stage)
    seen["stands_still"], seen["killed"] = stands_still(stage, Path(folder))
    if "memory" in (seen["controllers"] or ()):
        seen["slow"] = over(stage, Limits(memory_bytes=60 * MIB), "grow", mib=2000, mib_per_s=50)
        seen["fast"] = fast(stage)
        seen["shared"] = shared(stage)
    stage.close()
    seen["left"] = [path.name for path in Path(folder).glob("worker-*")]
    Path(folder, "cgroup.subtree_control").write_text(" ".join(f"-{name}" for name in seen["controllers"] or ()))
    Path(folder, "..", "cgroup.procs").write_text(str(os.getpid()))
    Path(folder, cgroup.ENGINE).rmdir()
    return seen


def over(stage: Stage, limits: Limits, task_type: str, **payload: Any) -> dict[str, Any]:
    """What is said of a run that passes a limit."""
    if stage.host.pid(0) is None:
        stage.up()
    stage.host.watch(0, limits)
    stage.send(task_type, payload)
    found = stage.wait_for(Exceeded)
    ended = stage.end()
    return {"cause": found.cause, "message": found.message, "stacks": (ended.post_mortem or {})["stacks"]}


def fast(stage: Stage) -> dict[str, Any]:
    """Past the wall before anybody looks, as nobody does: the kernel ends it."""
    pidfd = os.pidfd_open(stage.up())
    stage.host.watch(0, Limits(memory_bytes=100 * MIB))
    stage.send("leap", {"mib": 600})
    select.select([pidfd], [], [], PATIENCE_S)
    os.close(pidfd)
    ended = stage.wait_for(Exited)
    return {"signal": ended.signal, "oom": ended.oom, "sender": (ended.post_mortem or {})["sender"]}


def shared(stage: Stage) -> str:
    """A limit does not outlive its run, and what processes share counts once."""
    stage.up()
    stage.host.watch(0, Limits(memory_bytes=150 * MIB))
    word, _ = stage.run("share", {"mib": 80, "children": 4, "write": False, "hold_s": 0.3})
    stage.host.unwatch(0)
    after, _ = stage.run("leap", {"mib": 300})
    return (word + after).decode()


def left_behind(stage: Stage) -> bool:
    stage.up()
    _, child = stage.begin("leave")
    stage.end()
    return is_alive(int(child))


def stands_still(stage: Stage, folder: Path) -> tuple[list[bool], dict[str, Any]]:
    """What the kernel says of a worker that is frozen, goes on, and is killed while it is frozen again."""
    events = folder / f"worker-{stage.up()}" / "cgroup.events"
    token, _ = stage.begin("leave")
    said = []
    for wanted in (True, False, True):
        if wanted:
            stage.host.suspend(0)
        else:
            stage.host.resume(0, token, 0.1)
        end_s = time.monotonic() + PATIENCE_S
        while not (is_so := f"frozen {int(wanted)}" in events.read_text()) and time.monotonic() < end_s:
            pass
        said.append(is_so)
    ended = stage.end()
    return said, {"signal": ended.signal, "stacks": (ended.post_mortem or {})["stacks"]}


def _members(folder: str, pid: int) -> list[int]:
    return [int(line) for line in Path(folder, f"worker-{pid}", "cgroup.procs").read_text().split()
            if int(line) == pid]


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1])))
