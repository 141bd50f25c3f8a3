"""A handler that ends as its payload says, for the tests of the inline engine against the real one."""

from typing import Any

from engine import Cancel, Context, Retry, handler


class Refused(Exception):
    """No further run mends it."""


@handler("same-ends", retry_backoff_s=0.01, retry_factor=1, no_retry_on=Refused)
def end_as_told(payload: dict[str, Any], ctx: Context) -> Any:
    """Fail in the way of `how` in the first `times` attempts, then return `result`."""
    if ctx.attempt > payload["times"]:
        return payload["result"]
    match payload["how"]:
        case "raises":
            raise ValueError(f"attempt {ctx.attempt}")
        case "refuses":
            raise Refused("never")
        case "exits":
            raise SystemExit(3)
        case "asks for a retry":
            raise Retry("not yet", after=0.01)
        case "cancels":
            raise Cancel("not needed")
    return {"not", "JSON"}
