"""The tasks of `isolation_tasks` as handlers, beside what handlers often import, as the fork server has it."""

from typing import Any

import numpy
import orjson
import pydantic

from bench import isolation_tasks
from engine import handler

PRELOADED = (numpy, orjson, pydantic)


@handler("loop", queue="bench", max_retries=0)
def loop(payload: dict[str, Any]) -> None:
    isolation_tasks.loop(payload["mark"])


@handler("deaf", queue="bench", max_retries=0)
def deaf(payload: dict[str, Any]) -> None:
    isolation_tasks.deaf(payload["mark"])


@handler("in_c", queue="bench", max_retries=0)
def in_c(payload: dict[str, Any]) -> int:
    return isolation_tasks.in_c(payload["mark"])


@handler("family", queue="bench", max_retries=0)
def family(payload: dict[str, Any]) -> None:
    isolation_tasks.family(payload["mark"])


@handler("grow", queue="bench", max_crashes=0)
def grow(payload: dict[str, Any]) -> None:
    isolation_tasks.grow(payload["mark"])


@handler("burn", queue="bench", timeout=600)
def burn(payload: dict[str, Any]) -> None:
    isolation_tasks.spin(payload["mark"], payload["for_s"])


@handler("note", queue="bench")
def note(payload: dict[str, Any]) -> None:
    isolation_tasks.moment(payload["mark"])


@handler("abort", queue="bench", max_crashes=0)
def abort(payload: dict[str, Any]) -> None:
    isolation_tasks.abort()
