"""Waiting for descriptors: epoll with a callback for each, and nothing more.

Level-triggered: a callback that leaves something unread is called again. A
descriptor may be closed and its number given out anew while a batch is being
served, so a callback must bear being called when nothing is there.
"""

import select
from collections.abc import Callable

from engine.ports.poller import READ


class EpollPoller:
    """Calls the callbacks of descriptors that are ready. Fulfils `ports.Poller`."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[int], object]] = {}

    def register(self, fd: int, callback: Callable[[int], object], mask: int = READ) -> None:
        """Call `callback(mask)` from `wait` whenever `fd` is ready (or at its end, or in error)."""
        self._epoll.register(fd, mask)
        self._callbacks[fd] = callback

    def fileno(self) -> int:
        """Readable when something that was registered is ready: so that another loop may wait for all of it."""
        return self._epoll.fileno()

    def modify(self, fd: int, mask: int) -> None:
        """Wait for other events of `fd`."""
        self._epoll.modify(fd, mask)

    def unregister(self, fd: int) -> None:
        """Forget `fd`, which must still be open."""
        del self._callbacks[fd]
        self._epoll.unregister(fd)

    def wait(self, timeout_s: float | None) -> int:
        """Wait until something is ready or the time is up (None: for ever); return how many callbacks were called."""
        ready = self._epoll.poll(-1 if timeout_s is None else max(0.0, timeout_s))
        callbacks = self._callbacks
        for fd, mask in ready:
            callback = callbacks.get(fd)
            if callback is not None:  # an earlier callback may have unregistered it
                callback(mask)
        return len(ready)

    def close(self) -> None:
        """Close the descriptor of epoll."""
        self._epoll.close()
