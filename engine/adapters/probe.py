"""What the kernel knows of the processes of a tree, through psutil; and who this host is.

A process that ends while it is looked at is left out. CPU is a share of one
core since the last look, as in `top`.
"""

import os
import socket
from collections.abc import Iterator
from typing import Any

import psutil

_ATTRS = ("ppid", "cpu_percent", "memory_info", "num_threads", "cmdline", "create_time")


def host_id() -> str:
    """This kernel and this space of process ids: a pid means the same wherever this is the same."""
    with open("/proc/sys/kernel/random/boot_id") as boot:
        return f"{boot.read().strip()}:{os.stat('/proc/self/ns/pid').st_ino}"


def host_name() -> str:
    return socket.gethostname()


def born_at(pid: int) -> int | None:
    """When the process started, in clock ticks since boot, which tells it from a later one of the same pid.

    None if there is no such process, or only its zombie.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            fields = stat.read().rpartition(b") ")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


class CpuShare:
    """The part of the host's processor time that was used since the last call, from 0 to 1."""

    def __init__(self) -> None:
        self()

    def __call__(self) -> float:
        return psutil.cpu_percent() / 100


class Probe:
    """Samples `root_pid` and everything below it. Keeps the processes between looks, as CPU shares need that."""

    def __init__(self, root_pid: int) -> None:
        self._root_pid = root_pid
        self._known: dict[int, psutil.Process] = {}

    def sample(self) -> dict[int, dict[str, Any]]:
        """By pid: ppid, title, cpu_percent, rss_bytes, threads, open_files, age_s."""
        found = {process.pid: process for process in self._processes()}
        self._known = {pid: self._known[pid] if self._known.get(pid) == process else process
                       for pid, process in found.items()}
        samples = {}
        for pid, process in self._known.items():
            try:
                samples[pid] = self._look(process)
            except psutil.Error:
                continue
        return samples

    def _processes(self) -> Iterator[psutil.Process]:
        try:
            root = psutil.Process(self._root_pid)
            yield root
            yield from root.children(recursive=True)
        except psutil.Error:
            return

    def _look(self, process: psutil.Process) -> dict[str, Any]:
        with process.oneshot():
            facts = process.as_dict(_ATTRS, ad_value=None)
            memory = facts["memory_info"]
            return {
                "pid": process.pid, "ppid": facts["ppid"], "title": " ".join(facts["cmdline"] or [])[:200],
                "cpu_percent": facts["cpu_percent"], "rss_bytes": memory.rss if memory else None,
                "threads": facts["num_threads"], "open_files": _descriptors(process),
                "started_at_s": facts["create_time"],
            }


def _descriptors(process: psutil.Process) -> int | None:
    try:
        return int(process.num_fds())
    except psutil.AccessDenied:  # another user's, such as a child that changed its own
        return None
