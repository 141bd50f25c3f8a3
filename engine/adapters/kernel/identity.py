"""Tells a process from a later one of the same number, and whether it is there; ends it with all that is below it.

Law: a process that cannot be seen is not gone. `/proc` may hide the processes of others (hidepid, ProtectProc=) or lack
what is not of processes (ProcSubset=pid); the kernel's answer to `pidfd_open` does not depend on that. Nothing is ended
that is not provably the process that was meant, of the same user, and one of this engine's.
"""

import errno
import os
import select
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from engine.adapters.kernel.descendants import children, stat_fields

PID_MAX = 1 << 22  # linux/threads.h
_PARENT, _BORN_AT = 1, 19  # of the fields of /proc/PID/stat from the state on
_STOP_S_MAX = 1.0  # a tree that grows faster than it can be stopped is killed as far as it is known by then
_TITLES = (b"ganger: pool", b"ganger: fork server")  # of what may be ended with everything below


class Identity(NamedTuple):
    """`born_at`: clock ticks since boot, which tell a process from a later one of the same number; None: not known."""

    pid: int
    born_at: int | None


class Presence(Enum):
    """Whether a process is there, as far as this one can see."""

    LIVES = "lives"
    GONE = "gone"  # it has ended, whether or not it was reaped
    HIDDEN = "hidden"  # a process has that number, and nothing tells whether it is the same


def host_id() -> str:
    """This kernel and this space of process ids: a pid means the same wherever this is the same.

    Empty where that cannot be known: then no process is judged by its number.
    """
    try:
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        is_ours = os.readlink("/proc/self") == str(os.getpid())
        return f"{boot_id}:{os.stat('/proc/self/ns/pid').st_ino}" if is_ours else ""
    except OSError:
        return ""


def born_at(pid: int) -> int | None:
    """When the process started; None if there is no such process, only its zombie, or it cannot be seen."""
    fields = stat_fields(pid)
    return None if fields is None or fields[0] in "ZX" else int(fields[_BORN_AT])


def presence(one: Identity) -> Presence:
    """Whether that very process still runs, by the kernel's word."""
    found, pidfd = _find(one)
    if pidfd is not None:
        os.close(pidfd)
    return found


def end(roots: Iterable[Identity], within_s: float) -> bool:
    """Stop, then kill, pools and fork servers and everything below them; return whether all of it has ended.

    What is hidden, of another user, or no pool or fork server is left alone, and so is what is below it. Waits for
    the deaths for `within_s` at most: what hangs in the kernel by then runs no more code of its own.
    """
    held: dict[int, int] = {}  # pid -> pidfd
    others: set[int] = set()
    try:
        for one in roots:
            found, pidfd = _find(one)
            if pidfd is not None and found is Presence.LIVES and _is_ours(one.pid) and _send(pidfd, signal.SIGSTOP):
                held[one.pid] = pidfd
                continue
            if pidfd is not None:
                os.close(pidfd)
            if found is not Presence.GONE:
                others.add(one.pid)
        is_all = _stop_below(held) and not others - held.keys()
        for pidfd in held.values():
            _send(pidfd, signal.SIGKILL)
        return _await_ends(list(held.values()), time.monotonic() + within_s) and is_all
    finally:
        for pidfd in held.values():
            os.close(pidfd)


def _find(one: Identity) -> tuple[Presence, int | None]:
    """Whether it is there, with a descriptor of whatever has its number and has not ended."""
    if not 0 < one.pid <= PID_MAX:
        return Presence.GONE, None
    try:
        pidfd = os.pidfd_open(one.pid)
    except OSError as error:
        return (Presence.GONE if error.errno == errno.ESRCH else Presence.HIDDEN), None
    if _has_ended(pidfd):
        os.close(pidfd)
        return Presence.GONE, None
    if one.born_at is None:
        return Presence.LIVES, pidfd
    fields = stat_fields(one.pid)
    if fields is None:
        return Presence.HIDDEN, pidfd
    return (Presence.LIVES if int(fields[_BORN_AT]) == one.born_at else Presence.GONE), pidfd


def _stop_below(held: dict[int, int]) -> bool:
    """Stop everything below, until a look finds no new one. Return False if something there may not be stopped."""
    until_s, refused = time.monotonic() + _STOP_S_MAX, set[int]()
    while True:
        fresh = [(parent, pid) for parent in list(held) for pid in children(parent)
                 if pid not in held and pid not in refused]
        for parent, pid in fresh:
            pidfd = _open_child(parent, pid)
            if pidfd is None:
                continue
            if _send(pidfd, signal.SIGSTOP):
                held[pid] = pidfd
            else:  # a set-user-id program
                os.close(pidfd)
                refused.add(pid)
        if not fresh or time.monotonic() > until_s:
            return not refused


def _open_child(parent: int, pid: int) -> int | None:
    """A descriptor of a process that is provably a child of that one."""
    with suppress(OSError):
        pidfd = os.pidfd_open(pid)
        fields = stat_fields(pid)
        if fields is not None and int(fields[_PARENT]) == parent:
            return pidfd
        os.close(pidfd)
    return None


def _is_ours(pid: int) -> bool:
    with suppress(OSError):
        return os.stat(f"/proc/{pid}").st_uid == os.geteuid() and \
            Path(f"/proc/{pid}/cmdline").read_bytes().startswith(_TITLES)
    return False


def _send(pidfd: int, number: signal.Signals) -> bool:
    """False if that is not allowed. One that has gone meanwhile needs no signal."""
    try:
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return True


def _has_ended(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def _await_ends(pidfds: list[int], until_s: float) -> bool:
    poll = select.poll()
    for pidfd in pidfds:
        poll.register(pidfd, select.POLLIN)
    left = len(pidfds)
    while left and (left_s := until_s - time.monotonic()) > 0:
        for pidfd, _ in poll.poll(left_s * 1000):
            poll.unregister(pidfd)
            left -= 1
    return not left
