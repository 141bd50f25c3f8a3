"""Output of a run that goes round Python: C code and children write to descriptors 1 and 2, pipes to the pool.

The pool takes what it reads there for output of the run that goes on. So a run that has left something in one of them
replies only when the pool has read it, else the line would be in the log of the next run, or of none.
"""

import ctypes
from array import array
from collections.abc import Callable
from fcntl import ioctl
from termios import FIONREAD
from time import monotonic, sleep

_PATIENCE_S = 0.05  # a child may go on writing for ever
_PAUSE_S = 0.0002

_libc = ctypes.CDLL(None)
_c_stdout = ctypes.c_void_p.in_dll(_libc, "stdout")
_flush: Callable[[ctypes.c_void_p], int] = _libc.fflush


class NativeOutput:
    """`fds` are the worker's ends of the pipes."""

    def __init__(self, *fds: int) -> None:
        self._fds = fds
        self._unread = array("i", (0,))

    def settle(self) -> bool:
        """Wait until the pool has read everything; False if there was nothing unread (any more)."""
        _flush(_c_stdout)
        if not self._has_unread():
            return False
        until_s = monotonic() + _PATIENCE_S
        while self._has_unread() and monotonic() < until_s:
            sleep(_PAUSE_S)
        return True

    def _has_unread(self) -> bool:
        for fd in self._fds:
            ioctl(fd, FIONREAD, self._unread)
            if self._unread[0] > 0:
                return True
        return False
