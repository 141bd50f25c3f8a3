"""Says once, to whoever started the tree, that it is ready or why it is not, on a descriptor.

    ready {"module": "traceback", …}    with the imports that failed, which the tree survives
    failed "reason"
"""

import contextlib
import os
from collections.abc import Callable, Iterable

import orjson


class Readiness:
    def __init__(self, fd: int | None = None) -> None:
        self._fd = fd
        self._on_ready: Callable[[], None] = lambda: None
        self._awaited: set[str] = set()
        self._failures: dict[str, str] = {}
        self.is_ready = self._said = False

    def expect(self, names: Iterable[str], on_ready: Callable[[], None]) -> None:
        """Wait for these children; `on_ready` is called once all of them are."""
        self._awaited, self._on_ready = set(names), on_ready

    def ready(self, name: str, failures: dict[str, str]) -> None:
        self._awaited.discard(name)
        self._failures.update(failures)
        if not self._awaited and not self.is_ready:
            self.is_ready = True
            self._on_ready()
            self._say(b"ready " + orjson.dumps(self._failures))

    def fail(self, reason: str) -> None:
        self._say(b"failed " + orjson.dumps(reason))

    def _say(self, line: bytes) -> None:
        if self._said or self._fd is None:
            return
        self._said = True
        with contextlib.suppress(BrokenPipeError):
            os.write(self._fd, line + b"\n")
        os.close(self._fd)
