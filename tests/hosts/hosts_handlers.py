"""A handler that leaves a trace of each moment in which it runs, for whoever looks for two at once."""

import os
import time
from typing import Any

from engine import Context, handler


@handler("traced")
def traced(payload: dict[str, Any], ctx: Context) -> str:
    trace = os.open(payload["trace"], os.O_WRONLY | os.O_APPEND)
    host, end_s = os.environ["TRACED_HOST"], time.monotonic() + payload["seconds"]
    while time.monotonic() < end_s:
        os.write(trace, f"{ctx.task_id} {ctx.run} {host} {time.monotonic():.4f}\n".encode())
        time.sleep(0.02)
    return host
