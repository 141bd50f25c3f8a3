"""How a task tells a benchmark that it has begun, and how the benchmark learns that its process is gone.

Plain files and pidfds, so that it is the same for every engine, and runs in the peers' environment too.
"""

import os
import select
import time
from pathlib import Path

_POLL_S = 0.001


def mark(path: str, pid: int | None = None) -> None:
    """Say who we are and when we began, all at once."""
    draft = Path(f"{path}.draft")
    draft.write_text(f"{os.getpid() if pid is None else pid} {time.monotonic_ns()}")
    draft.rename(path)


def await_mark(path: str, patience_s: float) -> tuple[int, int]:
    """The pid and the moment in ns of a mark. Raises TimeoutError."""
    end_s = time.monotonic() + patience_s
    while not os.path.exists(path):
        if time.monotonic() > end_s:
            raise TimeoutError(f"{Path(path).name} was not begun within {patience_s:g} s")
        time.sleep(_POLL_S)
    pid, at_ns = map(int, Path(path).read_text().split())
    return pid, at_ns


def await_death(pid: int, patience_s: float) -> int | None:
    """The moment in ns at which the kernel said that a process is gone; None if it is not within `patience_s`."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return time.monotonic_ns()
    try:
        return time.monotonic_ns() if select.select([pidfd], [], [], patience_s)[0] else None
    finally:
        os.close(pidfd)
