"""Waiting for descriptors: the masks of epoll, and the port that calls back when one is ready."""

import errno
import select
from collections.abc import Callable
from typing import Protocol

READ = select.EPOLLIN
WRITE = select.EPOLLOUT
HANG_UP = select.EPOLLHUP

# What the kernel says to a message that it has no room for just now: memory, or descriptors under way.
NOT_NOW = frozenset({errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM, errno.ETOOMANYREFS})


class Poller(Protocol):
    """Waits for descriptors and calls back. A callback must bear being called when nothing is there."""

    def register(self, fd: int, callback: Callable[[int], object], mask: int = ...) -> None: ...
    def modify(self, fd: int, mask: int) -> None: ...
    def unregister(self, fd: int) -> None: ...
    def wait(self, timeout_s: float | None) -> int: ...
