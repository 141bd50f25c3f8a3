"""Which processes belong to the demo's engine, what they used, and whether they are gone in the end."""

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

from engine.client.models import Task
from engine.core.task.outcome import Cause
from engine.demo.findings import Process

GONE_WAIT_S = 5.0
LOOK_EVERY_S = 0.05


@dataclass(frozen=True, slots=True)
class ProcessList:
    """The processes at one moment."""

    found: tuple[psutil.Process, ...]
    processes: tuple[Process, ...]


def take(data_dir: Path, tasks: Iterable[Task]) -> ProcessList:
    """Everything below this process, and what runs on the data folder (the embedded Redis is nobody's child)."""
    known: dict[int, psutil.Process] = {}
    for process in (*psutil.Process().children(recursive=True), *_on_folder(data_dir)):
        known.setdefault(process.pid, process)
    per_worker = _per_worker(tasks)
    seen = []
    for process in known.values():
        try:
            with process.oneshot():
                seen.append(_measured(process, per_worker))
        except psutil.NoSuchProcess:
            continue
    return ProcessList(tuple(known.values()), tuple(sorted(seen, key=lambda one: (one.tasks is not None, one.pid))))


def still_running(listed: ProcessList) -> list[str]:
    """Wait for the processes of a list to end; return the names of those that do not."""
    give_up_s = time.monotonic() + GONE_WAIT_S
    alive = list(listed.found)
    while (alive := [process for process in alive if _runs(process)]) and time.monotonic() < give_up_s:
        psutil.wait_procs(alive, LOOK_EVERY_S)
    return [f"{_name(process)} (pid {process.pid})" for process in alive]


def _runs(process: psutil.Process) -> bool:
    """A dead process that its parent has not taken note of yet (init may take its time) does not run."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def gone(listed: ProcessList, tasks: Iterable[Task]) -> list[Process]:
    """The workers that ran tasks and were not there any more when the list was made."""
    present = {process.pid for process in listed.processes}
    return [Process(f"worker until {', '.join(sorted(use.ends)) or 'a run that was repeated'}", pid, use.cpu_s,
                    use.peak_bytes, use.tasks) for pid, use in _per_worker(tasks).items() if pid not in present]


@dataclass(slots=True)
class _Use:
    ends: set[str]
    cpu_s: float = 0.0
    peak_bytes: int = 0
    tasks: int = 0


def _per_worker(tasks: Iterable[Task]) -> dict[int, _Use]:
    """What the tasks say of the workers that ran them, by pid."""
    uses: dict[int, _Use] = {}
    for task in tasks:
        if task.pid is None:
            continue
        use = uses.setdefault(task.pid, _Use(set()))
        use.cpu_s += task.cpu_s or 0.0
        use.peak_bytes = max(use.peak_bytes, task.peak_rss_bytes or 0)
        use.tasks += 1
        if task.post_mortem is not None or task.cause == Cause.CANCELLED:
            use.ends.add(task.task_type.partition(".")[2])
    return uses


def _on_folder(data_dir: Path) -> Iterable[psutil.Process]:
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and any(str(data_dir) in word for word in process.cmdline()):
                yield process
                yield from process.children(recursive=True)
        except psutil.Error:
            continue


def _measured(process: psutil.Process, per_worker: dict[int, _Use]) -> Process:
    use = per_worker.get(process.pid)
    times = process.cpu_times()
    peak_bytes = max(_peak_bytes(process), use.peak_bytes if use else 0)  # a worker resets the kernel's count each run
    return Process(_name(process), process.pid, times.user + times.system, peak_bytes, use.tasks if use else None)


def _peak_bytes(process: psutil.Process) -> int:
    """The most memory that it ever had: the kernel keeps count of it."""
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return int(process.memory_info().rss)


def _name(process: psutil.Process) -> str:
    """Our processes title themselves `ganger: …`; the others are called by their program."""
    try:
        title = " ".join(process.cmdline()).strip()
        if title.startswith("ganger: "):
            return title.removeprefix("ganger: ")
        return "redis supervisor" if "server_supervisor.py" in title else process.name()
    except psutil.Error:
        return "gone"
