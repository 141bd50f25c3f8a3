"""Handlers that raise in odd ways, and handlers that run event loops. Each says "here" when it has begun."""

import asyncio
import sys
import time
from datetime import timedelta
from typing import Any, NoReturn

from engine import Cancel, Context, Retry, SoftTimeout, handler


class ClaimsToBeAnother(Exception):
    @property
    def __class__(self) -> NoReturn:  # type: ignore[override]
        raise RuntimeError("ask somebody else")


class RefusesToBeAsked(Exception):
    def __getattribute__(self, name: str) -> NoReturn:
        raise RuntimeError("ask somebody else")


RAISED: dict[str, Any] = {
    "claims": lambda: ClaimsToBeAnother("odd"), "refuses": lambda: RefusesToBeAsked("odd"),
    "exit 0": lambda: SystemExit(0), "exit None": SystemExit, "exit 3": lambda: SystemExit(3),
    "group of cancel": lambda: ExceptionGroup("two", [ValueError("x"), Cancel("enough")]),
    "group of retry": lambda: ExceptionGroup("outer", [ExceptionGroup("inner", [Retry("again", after=5)])]),
    "group of soft": lambda: BaseExceptionGroup("both", [ValueError("x"), SoftTimeout("over")]),
    "group of no retry": lambda: ExceptionGroup("one", [KeyError("x")]),
    "group": lambda: ExceptionGroup("one", [ValueError("x")]),
    "after 2": lambda: Retry(after=2), "after timedelta": lambda: Retry(after=timedelta(minutes=2)),
    "after text": lambda: Retry(after="soon"), "after number as text": lambda: Retry(after="7"),  # type: ignore[arg-type]
    "after inf": lambda: Retry(after=float("inf")), "after nan": lambda: Retry(after=float("nan")),
    "after huge": lambda: Retry(after=10**400), "after negative": lambda: Retry(after=-1),
    "after object": lambda: Retry(after=object()),  # type: ignore[arg-type]
}


@handler("raise", no_retry_on=(KeyError,))
def raise_(what: str) -> NoReturn:
    raise RAISED[what]()


def _burn() -> None:
    until_s = time.monotonic() + 30
    while time.monotonic() < until_s:
        pass


async def _burn_in_child() -> None:
    _burn()


async def _main(where: str, ctx: Context) -> None:
    asyncio.get_running_loop().call_later(0.05, ctx.progress, None, "here")
    if where == "callback":
        asyncio.get_running_loop().call_later(0.1, _burn)
    elif where == "background task":
        task = asyncio.create_task(_burn_in_child())
        del task
        ctx.progress(None, "here")
    elif where == "group":
        ctx.progress(None, "here")
        async with asyncio.TaskGroup() as group:
            group.create_task(_burn_in_child())
            group.create_task(asyncio.sleep(30))
    await asyncio.sleep(30)


@handler("loop")
def loop(payload: dict[str, str], ctx: Context) -> None:
    if payload["loop"] == "uvloop":
        import uvloop  # type: ignore[import-not-found,unused-ignore]

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_main(payload["where"], ctx))
    else:
        asyncio.run(_main(payload["where"], ctx))


@handler("loop_cleanup")
def loop_cleanup(payload: Any, ctx: Context) -> str:
    async def main() -> str:
        try:
            ctx.progress(None, "here")
            _burn()
        except SoftTimeout:
            await asyncio.sleep(0.05)
            return "cleaned up"
        return "not reached"

    return asyncio.run(main())


@handler("soft_in_except_star")
def soft_in_except_star(payload: Any, ctx: Context) -> str:
    ctx.progress(None, "here")
    try:
        _burn()
    except* SoftTimeout as group:
        return_value = type(group.exceptions[0]).__name__
    sys.stdout.flush()
    return return_value
