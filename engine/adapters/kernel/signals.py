"""The signals of a fork server and its workers.

Those of the fork server are taken back after the imports, since a module may do anything to them.

The functions are bound here, before any module of the user is imported and can replace them.
"""

import faulthandler
from signal import (
    ITIMER_PROF,
    ITIMER_REAL,
    ITIMER_VIRTUAL,
    SIG_DFL,
    SIG_IGN,
    SIG_UNBLOCK,
    SIGCHLD,
    SIGHUP,
    SIGINT,
    SIGQUIT,
    SIGTERM,
    SIGUSR1,
    SIGUSR2,
    pthread_sigmask,
    set_wakeup_fd,
    setitimer,
)
from signal import signal as set_handler
from types import FrameType

DEFERRED = (SIGTERM, SIGINT, SIGHUP)  # the root decides on the end of its tree, and a worker's run ends before it
_IGNORED = (SIGINT, SIGUSR1, SIGUSR2)


def ignore() -> None:
    """Before the imports. ^C on a terminal is for the root to decide on; the others are for workers alone."""
    for number in _IGNORED:
        set_handler(number, SIG_IGN)


def take_back() -> None:
    """After the imports: what they blocked, handle, ignore or have set an alarm for must not reach this process.

    SIGUSR1 and SIGUSR2 must not kill a worker that is not ready for them yet. A SIGCHLD that is ignored makes the
    kernel throw exit statuses away.
    """
    set_wakeup_fd(-1)
    for timer in (ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF):
        setitimer(timer, 0)
    for number in (SIGUSR1, SIGUSR2):
        faulthandler.unregister(number)  # a registration that is there already would not install its handler again
    for number in (*_IGNORED, *DEFERRED):
        set_handler(number, SIG_IGN)
    for number in (SIGCHLD, SIGQUIT):
        set_handler(number, SIG_DFL)
    pthread_sigmask(SIG_UNBLOCK, (SIGCHLD, SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2))


def deferred(number: int, frame: FrameType | None) -> None:
    """A worker's handler of the DEFERRED signals. A function, and not SIG_IGN, which its children would inherit."""
