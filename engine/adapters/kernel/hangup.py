"""Tells the SIGHUP of a terminal that was closed from that of a `kill -HUP`, which asks for a reload.

The kernel takes the terminal away from a session before it sends the signal. So a process that had a controlling
terminal and has none any more was hung up on. A process that never had one, such as a service, only ever hears the
other.
"""

import errno
import os
import signal

_NONE = (errno.ENXIO, errno.EIO, errno.ENODEV)


class Hangup:
    """What it was like at the start: whether there was a terminal, and whether its end was to be ignored (nohup)."""

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
