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
from tests.integration.process.host_harness import PATIENCE_S, HostHarness, is_alive


def main(folder: str) -> dict[str, Any]:
    Path(folder, "cgroup.procs").write_text(str(os.getpid()))
    taken = cgroup.take_over()
    seen: dict[str, Any] = {"taken": str(taken), "again": str(cgroup.take_over()), "own": str(cgroup.our_group()),
                            "controllers": cgroup.controllers(taken) if taken else None}
    harness = HostHarness("tests.integration.process.limit_handlers", dump_s=5.0)
    harness.start()
    pid = harness.up()
    seen["group_of_worker"] = _members(folder, pid)
    seen["cpu"] = over(harness, Limits(cpu_s=0.3), "burn")
    seen["processes"] = over(harness, Limits(processes=2), "multiply", children=4, hold_s=60)
    seen["left_alive"] = left_behind(harness)
    seen["stands_still"], seen["killed"] = stands_still(harness, Path(folder))
    if "memory" in (seen["controllers"] or ()):
        seen["slow"] = over(harness, Limits(memory_bytes=60 * MIB), "grow", mib=2000, mib_per_s=50)
        seen["fast"] = fast(harness)
        seen["shared"] = shared(harness)
    harness.close()
    seen["left"] = [path.name for path in Path(folder).glob("worker-*")]
    Path(folder, "cgroup.subtree_control").write_text(" ".join(f"-{name}" for name in seen["controllers"] or ()))
    Path(folder, "..", "cgroup.procs").write_text(str(os.getpid()))
    Path(folder, cgroup.ENGINE).rmdir()
    return seen


def over(harness: HostHarness, limits: Limits, task_type: str, **payload: Any) -> dict[str, Any]:
    """What is said of a run that passes a limit."""
    if harness.host.pid(0) is None:
        harness.up()
    harness.host.watch(0, limits)
    harness.send(task_type, payload)
    found = harness.wait_for(Exceeded)
    ended = harness.end()
    return {"cause": found.cause, "message": found.message, "stacks": (ended.post_mortem or {})["stacks"]}


def fast(harness: HostHarness) -> dict[str, Any]:
    """Past the wall before anybody looks, as nobody does: the kernel ends it."""
    pidfd = os.pidfd_open(harness.up())
    harness.host.watch(0, Limits(memory_bytes=100 * MIB))
    harness.send("leap", {"mib": 600})
    select.select([pidfd], [], [], PATIENCE_S)
    os.close(pidfd)
    ended = harness.wait_for(Exited)
    return {"signal": ended.signal, "oom": ended.oom, "sender": (ended.post_mortem or {})["sender"]}


def shared(harness: HostHarness) -> str:
    """A limit does not outlive its run, and what processes share counts once."""
    harness.up()
    harness.host.watch(0, Limits(memory_bytes=150 * MIB))
    word, _ = harness.run("share", {"mib": 80, "children": 4, "write": False, "hold_s": 0.3})
    harness.host.unwatch(0)
    after, _ = harness.run("leap", {"mib": 300})
    return (word + after).decode()


def left_behind(harness: HostHarness) -> bool:
    harness.up()
    _, child = harness.begin("leave")
    harness.end()
    return is_alive(int(child))


def stands_still(harness: HostHarness, folder: Path) -> tuple[list[bool], dict[str, Any]]:
    """What the kernel says of a worker that is frozen, goes on, and is killed while it is frozen again."""
    events = folder / f"worker-{harness.up()}" / "cgroup.events"
    token, _ = harness.begin("leave")
    said = []
    for wanted in (True, False, True):
        if wanted:
            harness.host.suspend(0)
        else:
            harness.host.resume(0, token, 0.1)
        end_s = time.monotonic() + PATIENCE_S
        while not (is_so := f"frozen {int(wanted)}" in events.read_text()) and time.monotonic() < end_s:
            pass
        said.append(is_so)
    ended = harness.end()
    return said, {"signal": ended.signal, "stacks": (ended.post_mortem or {})["stacks"]}


def _members(folder: str, pid: int) -> list[int]:
    return [int(line) for line in Path(folder, f"worker-{pid}", "cgroup.procs").read_text().split()
            if int(line) == pid]


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1])))
