"""Handlers that do not end, or end badly. Beside them stands what handlers often import, as the fork server has it."""

import os
import time
from pathlib import Path
from typing import Any

import numpy
import orjson
import pydantic

from engine import handler

PRELOADED = (numpy, orjson, pydantic)


def _mark(payload: dict[str, Any]) -> None:
    """Say who we are and when we began, all at once."""
    draft = Path(f"{payload['mark']}.draft")
    draft.write_text(f"{os.getpid()} {time.monotonic_ns()}")
    draft.rename(payload["mark"])


@handler("hang_python", queue="bench", max_retries=0)
def hang_python(payload: dict[str, Any]) -> None:
    """For ever, ignoring every exception."""
    _mark(payload)
    while True:
        try:
            while True:
                pass
        except BaseException:  # noqa: BLE001, S112  that is its point
            continue


@handler("hang_c", queue="bench", max_retries=0)
def hang_c(payload: dict[str, Any]) -> int:
    """In C, with the GIL held."""
    _mark(payload)
    return sum(range(10**12))


@handler("abort", queue="bench", max_crashes=0)
def abort(payload: dict[str, Any]) -> None:
    os.kill(os.getpid(), 9)
