"""Handlers that tests can hold at a known point, through named pipes."""

import os
import subprocess
from typing import Any

from engine import Context, handler


@handler("echo")
def echo(payload: dict[str, Any]) -> dict[str, Any]:
    return payload


@handler("pid")
def pid(payload: dict[str, Any]) -> int:
    return os.getpid()


@handler("submits")
def submits(payload: dict[str, Any]) -> str:
    """Submit a task from within a task, as one would from anywhere."""
    return echo.submit(**payload)


@handler("hold", timeout=60)
def hold(payload: dict[str, Any], ctx: Context) -> int:
    """Say that it has started, then wait to be let go."""
    with open(payload["started"], "w") as started:
        started.write(f"{os.getpid()} {ctx.run}\n")
    with open(payload["go"]) as go:
        go.read()
    return ctx.run


@handler("parent", timeout=60)
def parent(payload: dict[str, Any]) -> None:
    """Start a child in a session of its own and wait for ever."""
    child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    with open(payload["started"], "w") as started:
        started.write(f"{os.getpid()} {child.pid}\n")
    child.wait()


@handler("hold_large", timeout=60)
def hold_large(payload: dict[str, Any], ctx: Context) -> str:
    """As `hold`; its result is more than a pipe holds."""
    hold(payload, ctx)
    return "x" * 600_000
