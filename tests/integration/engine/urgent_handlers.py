"""Handlers for the tests of runs that stand still. Each says that it has begun in a file of its own."""

import os
import subprocess
import time
from typing import Any

from engine import Context, handler
from engine.errors import TaskInterrupted


@handler("spin", timeout=60)
def spin(payload: dict[str, Any], ctx: Context) -> dict[str, Any]:
    """Burn CPU time until the file `end` is there, with a child in a session of its own."""
    begun_s = time.monotonic()
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, start_new_session=True) as child:
        _begin(payload, child.pid)
        number = 0
        try:
            number = _count_until(payload["end"])
        except TaskInterrupted:
            with open(payload["begun"] + ".interrupted", "w"):
                raise
        finally:
            child.kill()
    return {"elapsed_s": time.monotonic() - begun_s, "left_s": ctx.left_s, "is_thousands": number % 1000 == 0}


@handler("pinned", timeout=60, preemptible=False)
def pinned(payload: dict[str, Any], ctx: Context) -> dict[str, Any]:
    return spin.spec.function(payload, ctx)  # type: ignore[no-any-return]


@handler("hold", timeout=60)
def hold(payload: dict[str, Any]) -> str:
    """Wait until somebody writes to the pipe `end`."""
    _begin(payload)
    with open(payload["end"]) as pipe:
        return pipe.read()


@handler("short")
def short(payload: int) -> int:
    time.sleep(0.002)
    return payload


def _count_until(end: str) -> int:
    """Not in the `try` itself: Python 3.13 leaves the backward jump of a loop out of it."""
    number = 0
    while number % 1000 or not os.path.exists(end):
        number += 1
    return number


def _begin(payload: dict[str, Any], *children: int) -> None:
    with open(payload["begun"] + ".part", "w") as file:
        file.write(" ".join(map(str, (os.getpid(), *children))))
    os.rename(payload["begun"] + ".part", payload["begun"])
