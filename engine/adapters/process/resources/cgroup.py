"""cgroup v2, where a group has been delegated to the engine: a group of its own for each worker.

    <delegated>/            what systemd (Delegate=yes) or a container gave us
      ganger-tree/          root, pools, keeper: the kernel wants no processes beside subgroups with controllers
      worker-<pid>/         one worker and all that it starts, whatever they do; its limits are those of its run

The engine's root moves itself when it starts (`take_over`); pools know by their own group's name that it has.
"""

import contextlib
import os
from contextlib import suppress
from pathlib import Path

from engine.adapters.kernel.descendants import descendants
from engine.core.task.limits import MIB, Limits

ENGINE = "ganger-tree"
CONTROLLERS = ("memory", "pids")
# The wall that the kernel holds stands behind the limit, so that there is time for the stacks of a run that passes it.
_ROOM_SHARE, _ROOM_BYTES_MIN, _ROOM_BYTES_MAX = 8, 16 * MIB, 256 * MIB
_TASKS_OF_A_PROCESS = 64  # the kernel counts threads too: this wall is for those that fork faster than anybody looks


class WorkerCgroup:
    """The group of one worker. What the kernel cannot tell or limit for want of a controller is left out."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.mkdir()
        self._has_memory = (path / "memory.max").exists()
        self._has_pids = (path / "pids.max").exists()
        if self._has_memory:  # one that dies of it takes all with it, or half a run would go on
            (path / "memory.oom.group").write_text("1")

    def add(self, pid: int) -> None:
        """Take a process in; all that it starts from now on is born here. Raises `OSError`."""
        (self._path / "cgroup.procs").write_text(str(pid))

    def hold(self, limits: Limits, left_bytes: int = 0) -> None:
        """`left_bytes` are those that the run is not charged with."""
        if limits.memory_bytes and self._has_memory:
            room = min(max(limits.memory_bytes // _ROOM_SHARE, _ROOM_BYTES_MIN), _ROOM_BYTES_MAX)
            self._write("memory.max", str(limits.memory_bytes + left_bytes + room))
            self._write("memory.swap.max", "0")
        if limits.processes and self._has_pids:
            self._write("pids.max", str(limits.processes * _TASKS_OF_A_PROCESS))

    def let_go(self) -> None:
        """No limits any more."""
        for name in ("memory.max", "memory.swap.max") if self._has_memory else ():
            self._write(name, "max")
        if self._has_pids:
            self._write("pids.max", "max")

    def members(self) -> list[int]:
        """The pids of its processes."""
        with suppress(OSError):
            return [int(line) for line in (self._path / "cgroup.procs").read_text().split()]
        return []

    def memory_bytes(self) -> int | None:
        """What cannot be taken back from its processes: anonymous and shared memory. None without the controller."""
        if not self._has_memory:
            return None
        stat = self._pairs("memory.stat")
        return stat.get("anon", 0) + stat.get("shmem", 0)

    def cpu_s(self) -> float:
        """CPU seconds of all that were ever in it."""
        return self._pairs("cpu.stat").get("usage_usec", 0) / 1e6

    def oom_kills(self) -> int:
        """How many of its processes the kernel's OOM killer has ended."""
        return self._pairs("memory.events").get("oom_kill", 0)

    def kill(self) -> None:
        """All at once; from Linux 5.14 on, before it there is nothing that could be done here."""
        self._write("cgroup.kill", "1")

    def freeze(self) -> bool:
        """Stop all processes, and those that they start in this moment. Return False where the kernel cannot."""
        return self._write("cgroup.freeze", "1")

    def thaw(self) -> None:
        """Let all go on."""
        self._write("cgroup.freeze", "0")

    def remove(self) -> bool:
        """Once it is empty. False if it is not yet."""
        try:
            self._path.rmdir()
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return True

    def _write(self, name: str, value: str) -> bool:
        with suppress(OSError):  # a kernel without this file, or a group that is gone
            (self._path / name).write_text(value)
            return True
        return False

    def _pairs(self, name: str) -> dict[str, int]:
        with suppress(OSError):
            lines = (self._path / name).read_text().splitlines()
            return {key: int(value) for key, _, value in (line.partition(" ") for line in lines)}
        return {}


class WorkerCgroups:
    """The groups of a pool's workers, below the group that was delegated. `base` None: there is none."""

    def __init__(self, base: Path | None) -> None:
        self._base = base
        self._leaving: list[WorkerCgroup] = []
        if base is not None:  # those of a pool that was killed
            for empty in base.glob("worker-*"):
                with suppress(OSError):
                    empty.rmdir()

    def make(self, pid: int) -> WorkerCgroup | None:
        """A group with this worker in it, None where that cannot be had."""
        if self._base is None:
            return None
        self._leaving = [group for group in self._leaving if not group.remove()]
        group = None
        with suppress(OSError):
            group = WorkerCgroup(self._base / f"worker-{pid}")
            group.add(pid)
            return group
        if group is not None:
            group.remove()
        return None

    def remove(self, group: WorkerCgroup) -> None:
        """Remove a cgroup, now or when its last process is gone."""
        if not group.remove():
            self._leaving.append(group)


def take_over() -> Path | None:
    """Move this process to a group of its own below the one that was delegated to it; return the latter, if any.

    To be called before there are children. A group is delegated if we may write to it and all its processes are ours.
    """
    own = our_group()
    if own is None or own.name == ENGINE:
        return base()
    if not is_delegated(own):
        return None
    try:
        leaf = own / ENGINE
        leaf.mkdir(exist_ok=True)
        for pid in (own / "cgroup.procs").read_text().split():
            with suppress(ProcessLookupError):
                (leaf / "cgroup.procs").write_text(pid)
    except OSError:
        return None
    for controller in CONTROLLERS:
        with suppress(OSError):  # not given to us
            (own / "cgroup.subtree_control").write_text(f"+{controller}")
    return own


def base() -> Path | None:
    """The group that was delegated to our engine, if `take_over` has found one."""
    own = our_group()
    return own.parent if own is not None and own.name == ENGINE and os.access(own.parent, os.W_OK) else None


def enforcement() -> str:
    """What holds the limits of runs in this engine, in words."""
    group = base()
    if group is None:
        return "sampling"
    given = controllers(group)
    return f"cgroup v2 ({', '.join(given)})" if given else "cgroup v2 (no controllers) and sampling"


def controllers(group: Path) -> list[str]:
    """Those that a subgroup can have, of the ones that we use."""
    with suppress(OSError):
        given = (group / "cgroup.controllers").read_text().split()
        return [name for name in CONTROLLERS if name in given]
    return []


def is_delegated(group: Path) -> bool:
    """Whether a group is ours to use: writable, not the machine's own, and without others' processes."""
    needed = (group, group / "cgroup.procs", group / "cgroup.subtree_control")
    if not (group / "cgroup.type").exists() or not all(os.access(path, os.W_OK) for path in needed):
        return False
    ours = {os.getpid(), *descendants(os.getpid())}
    with contextlib.suppress(OSError):
        return ours.issuperset(map(int, (group / "cgroup.procs").read_text().split()))
    return False


def our_group() -> Path | None:
    """The folder of the cgroup v2 that this process is in; None where there is no such file system."""
    place = mount()
    if place is not None:
        with suppress(OSError):
            for line in Path("/proc/self/cgroup").read_text().splitlines():
                if line.startswith("0::"):
                    return place / line.removeprefix("0::").lstrip("/")
    return None


def mount() -> Path | None:
    """Where cgroup v2 is mounted: at the root, or beside version 1."""
    with suppress(OSError):
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            fields, _, kind = line.partition(" - ")
            if kind.startswith("cgroup2 "):
                return Path(fields.split()[4])
    return None
