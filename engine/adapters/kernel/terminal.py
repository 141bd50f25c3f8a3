"""The terminal that a process was started from, and its first three descriptors.

A terminal that is closed sends SIGHUP, and so does `kill -HUP`, which asks for a reload. The kernel takes the terminal
away from a session before it sends the signal. So where a process had a controlling terminal and has none any more, the
terminal was closed. A process that never had one, such as a service, only ever gets the other signal.

Every program takes the first three descriptors for granted. Where one is closed (`>&-`), the next socket or file would
take its number, and what a child writes to its standard output would go there.
"""

import errno
import os
import signal

_NONE = (errno.ENXIO, errno.EIO, errno.ENODEV)


class Hangup:
    """How it was at the start: whether there was a terminal, and whether its end was to be ignored (nohup)."""

    def __init__(self) -> None:
        self._had_terminal = has_terminal()
        self.is_ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN

    def has_come(self) -> bool:
        """Whether the terminal that there was has gone."""
        return self._had_terminal and not has_terminal()


def has_terminal() -> bool:
    """Whether this process has a controlling terminal."""
    try:
        descriptor = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        return error.errno not in _NONE
    os.close(descriptor)
    return True


def open_closed() -> set[int]:
    """Open /dev/null on each of the first three descriptors that is closed; returns which these were."""
    closed = {descriptor for descriptor in range(3) if not _is_open(descriptor)}
    for _ in closed:
        os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number that is free
    return closed


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True
