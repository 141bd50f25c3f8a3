"""Whether this process waits for tasks. A worker that does keeps its place meanwhile, which its pool wants to know."""

from _thread import get_ident
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class WaitingThreads:
    """Knows which threads wait; tells of the first that begins and of the last that ends.

    Without a lock, which a fork could inherit while it is held: at worst something is told once too often.
    """

    def __init__(self) -> None:
        self._threads: set[int] = set()
        self._told = False
        self._tell: Callable[[bool], None] | None = None

    def tell_to(self, tell: Callable[[bool], None]) -> None:
        """Have `tell` called with whether any thread waits, whenever that changes."""
        self._tell = tell

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """While inside, this thread waits."""
        self._change(self._threads.add)
        try:
            yield
        finally:
            self._change(self._threads.discard)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """While inside, this thread does not wait, though it is inside `waiting`."""
        self._change(self._threads.discard)
        try:
            yield
        finally:
            self._change(self._threads.add)

    def _change(self, change: Callable[[int], None]) -> None:
        if self._tell is None:
            return
        change(get_ident())
        does = bool(self._threads)
        if does != self._told:
            self._told = does
            self._tell(does)


WAITING_THREADS = WaitingThreads()
