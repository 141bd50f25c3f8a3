"""Handlers for the tests of the Scheduler; the workers import this module by its name."""

from typing import Any

from pydantic import BaseModel

from engine import Context, Retry, handler


class Sum(BaseModel):
    a: int
    b: int = 1


@handler("scheduled-sum", queue="sums", priority="high")
def scheduled_sum(payload: Sum) -> int:
    return payload.a + payload.b


@handler("scheduled-fail", max_retries=1, retry_backoff_s=0.01)
def fail(payload: Any, ctx: Context) -> None:
    raise ValueError(f"attempt {ctx.attempt}")


@handler("scheduled-hold")
def hold(payload: str) -> None:
    """Runs until somebody opens the pipe of this name."""
    with open(payload) as pipe:
        pipe.read()


def plain(payload: Any) -> Any:
    return payload


def asks_again(payload: Any, ctx: Context) -> int:
    if ctx.run < 3:
        raise Retry(after=0)
    return ctx.run
