"""Handlers of the engine that runs as a service; copied into the container as `tasks.py`."""

import os
import time
from pathlib import Path
from typing import Any

from engine import Context, handler


@handler("hold", timeout=120)
def hold(payload: str, ctx: Context) -> int:
    """Says by a file that it runs, and does so until another file is there."""
    Path(f"{payload}.started").write_text(f"{os.getpid()} {ctx.run}")
    while not os.path.exists(f"{payload}.go"):
        time.sleep(0.01)
    return ctx.run


@handler("version")
def version(payload: Any) -> str:
    return "VERSION 1"


@handler("fork_many", timeout=60)
def fork_many(payload: int) -> int:
    """How many children the kernel lets us have at once, up to `payload`."""
    children: list[int] = []
    try:
        while len(children) < payload:
            pid = os.fork()
            if pid == 0:
                time.sleep(60)
                os._exit(0)
            children.append(pid)
    except BlockingIOError:
        pass
    for pid in children:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
    return len(children)


@handler("eat", timeout=60, max_crashes=0)
def eat(payload: int) -> int:
    """Take so many MiB of memory, and touch them."""
    return sum(len(bytearray(b"x") * (1 << 20)) for _ in [bytearray(b"x" * (payload << 20))])
