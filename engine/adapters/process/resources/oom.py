"""Whether it was the kernel's OOM killer that ended a process: a SIGKILL itself does not say where it came from.

The kernel shows it, from the surest source to the least sure: in its log, by the number of the process (/dev/kmsg, for
root, outside of containers); in a counter of the memory cgroup that we live in; in a counter of the whole host.
"""

import os
import re
from contextlib import suppress

_KMSG = "/dev/kmsg"
_RECORD_BYTES_MAX = 8192
_RECORDS_MAX = 20_000  # at once; a kernel that says so much more says nothing of use
_VICTIM = re.compile(rb"Killed process (\d+) \(")
_FIRST_NAMESPACE = 0xEFFFFFFC  # of process ids, the only one whose numbers are in the kernel's log (PROC_PID_INIT_INO)
_V1, _V2 = "/sys/fs/cgroup/memory", "/sys/fs/cgroup"


class OomKiller:
    """Asked when a worker has died of a SIGKILL that was not ours."""

    def __init__(self) -> None:
        self._log = _open_log()
        self._victims: set[int] = set()
        self._cgroup = _counter_of_our_cgroup()

    def mark(self) -> tuple[int, int]:
        """How many it has ended by now, in our cgroup and on this host."""
        return _count(*self._cgroup) if self._cgroup else 0, _count("/proc/vmstat", b"oom_kill")

    def ended(self, pid: int, since: tuple[int, int]) -> str | None:
        """How it is known that the OOM killer ended this process, which was alive at `since`; None: it did not."""
        if self._log >= 0:
            self._read_log()
            return "the kernel's log names it" if pid in self._victims else None
        in_cgroup, on_host = self.mark()
        if self._cgroup:
            return "the counter of our cgroup rose" if in_cgroup > since[0] else None
        return "the counter of this host rose" if on_host > since[1] else None

    def close(self) -> None:
        """Close the kernel's log."""
        if self._log >= 0:
            os.close(self._log)
            self._log = -1

    def _read_log(self) -> None:
        for _ in range(_RECORDS_MAX):
            try:
                record = os.read(self._log, _RECORD_BYTES_MAX)
            except BlockingIOError:
                return
            except BrokenPipeError:  # records were overwritten before we came
                continue
            if found := _VICTIM.search(record):
                self._victims.add(int(found[1]))


def how_it_is_known() -> str:
    """For the doctor."""
    killer = OomKiller()
    known = ("the kernel's log" if killer._log >= 0 else "the counter of our cgroup" if killer._cgroup
             else "a counter of this host, which other processes raise too")
    killer.close()
    return known


def _open_log() -> int:
    with suppress(OSError):
        if os.stat("/proc/self/ns/pid").st_ino == _FIRST_NAMESPACE:
            log = os.open(_KMSG, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            os.lseek(log, 0, os.SEEK_END)
            return log
    return -1


def _counter_of_our_cgroup() -> tuple[str, bytes] | None:
    """The file and the name of the counter, where there is one."""
    with suppress(OSError), open("/proc/self/cgroup") as file:
        for line in file:
            number, controllers, path = line.rstrip("\n").split(":", 2)
            if "memory" in controllers.split(","):
                return _readable(f"{_V1}{path.rstrip('/')}/memory.oom_control")
            if number == "0" and (found := _readable(f"{_V2}{path.rstrip('/')}/memory.events")):
                return found
    return None


def _readable(path: str) -> tuple[str, bytes] | None:
    return (path, b"oom_kill") if os.access(path, os.R_OK) else None


def _count(path: str, name: bytes) -> int:
    with suppress(OSError, ValueError), open(path, "rb") as file:
        for line in file:
            if line.startswith(name + b" "):
                return int(line.split()[1])
    return 0
