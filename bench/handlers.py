"""The handlers that the benchmarks run."""

import time
from typing import Any

from engine import handler


@handler("noop", queue="bench", timeout=60)
def noop(payload: dict[str, Any]) -> None:
    """Nothing at all: what is measured is the engine."""


@handler("moment", queue="bench", timeout=60)
def moment(payload: dict[str, Any]) -> int:
    """The moment at which it started, in ns of the machine's monotonic clock."""
    return time.monotonic_ns()


@handler("spin", queue="bench", timeout=60)
def spin(payload: dict[str, Any]) -> None:
    """Burn CPU for a given time."""
    end_s = time.perf_counter() + payload["s"]
    while time.perf_counter() < end_s:
        pass


@handler("nap", queue="bench", timeout=60)
def nap(payload: dict[str, Any]) -> int:
    """Sleep for a given time; the moment at which it started, as `moment`."""
    started_ns = time.monotonic_ns()
    time.sleep(payload["s"])
    return started_ns


@handler("echo", queue="bench", timeout=60)
def echo(payload: dict[str, Any]) -> dict[str, Any]:
    """Give back what came."""
    return payload
