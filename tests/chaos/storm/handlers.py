"""What the tasks of a storm do. Each run writes that it begins, goes on and ends, into one file for all of a host."""

import os
import signal
import time
from typing import Any

from engine import Context, handler
from tests.chaos.storm.plain import CRASHES_MAX, note


def go_on(ctx: Context, for_s: float) -> None:
    end_s = time.monotonic() + for_s
    while (left_s := end_s - time.monotonic()) > 0:
        time.sleep(min(0.05, left_s))
        note("T", ctx)


@handler("quick", max_crashes=CRASHES_MAX)
def quick(payload: dict[str, Any], ctx: Context) -> int:
    note("B", ctx)
    note("E", ctx)
    return int(payload["n"])


@handler("long", max_crashes=CRASHES_MAX, timeout=60)
def long(payload: dict[str, Any], ctx: Context) -> int:
    note("B", ctx)
    go_on(ctx, payload["for_s"])
    note("E", ctx)
    return int(payload["n"])


@handler("once", max_crashes=CRASHES_MAX, max_deliveries=1)
def once(payload: dict[str, Any], ctx: Context) -> int:
    return long(payload, ctx)


@handler("retrying", max_crashes=CRASHES_MAX, max_retries=3, retry_backoff_s=0.2)
def retrying(payload: dict[str, Any], ctx: Context) -> int:
    note("B", ctx)
    note("E", ctx)
    if ctx.attempt <= 2:
        raise ValueError(f"attempt {ctx.attempt}")
    return int(payload["n"])


@handler("crashing", max_crashes=2, retry_backoff_s=0.2)
def crashing(payload: dict[str, Any], ctx: Context) -> None:
    note("B", ctx)
    os.kill(os.getpid(), signal.SIGKILL)


@handler("hanging", max_crashes=CRASHES_MAX, timeout=0.5)
def hanging(payload: dict[str, Any], ctx: Context) -> None:
    note("B", ctx)
    go_on(ctx, 600)


@handler("unwanted", max_crashes=CRASHES_MAX, timeout=0)
def unwanted(payload: dict[str, Any], ctx: Context) -> None:
    note("B", ctx)
    go_on(ctx, 600)
