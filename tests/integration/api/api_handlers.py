"""Handlers for the tests of the API."""

import os
import sys
from typing import Any

from engine import Context, handler


@handler("double")
def double(payload: dict[str, Any]) -> dict[str, Any]:
    return {"doubled": payload["number"] * 2}


@handler("fail", max_retries=0)
def fail(payload: dict[str, Any]) -> None:
    raise ValueError(payload.get("message", "as asked"))


@handler("retried", max_retries=1, retry_backoff_s=0.01, retry_jitter=0)
def retried(payload: dict[str, Any]) -> None:
    raise ValueError("both times")


@handler("held")
def held(payload: dict[str, Any], ctx: Context) -> str:
    """Runs until the other end of the pipe is closed."""
    print("it is held")
    sys.stdout.flush()
    ctx.progress(0.5, "half way")
    with open(payload["until"]) as until:
        until.read()
    return "let go"


@handler("die", max_crashes=0)
def die(payload: dict[str, Any]) -> None:
    os.abort()


@handler("late", timeout=0.3)
def late(payload: dict[str, Any], ctx: Context) -> None:
    with open(payload["until"]) as until:
        until.read()


@handler("traced")
def traced(payload: dict[str, Any], ctx: Context) -> str | None:
    return ctx.traceparent


@handler("noop")
def noop(payload: Any) -> None:
    """Nothing."""


@handler("thumbnail")
def thumbnail(payload: dict[str, Any]) -> dict[str, Any]:
    """As on the page about the API."""
    return {"id": payload["id"], "bytes": 20_480}
