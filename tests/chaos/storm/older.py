"""Handlers as an older version of the code has them: some of today's types are not among them."""

from typing import Any

from engine import Context, handler
from tests.chaos.storm.plain import CRASHES_MAX, note


@handler("quick", max_crashes=CRASHES_MAX)
def quick(payload: dict[str, Any], ctx: Context) -> int:
    note("B", ctx)
    note("E", ctx)
    return int(payload["n"])
