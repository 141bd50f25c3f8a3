"""Handlers for the tests of the command. They wait for named pipes, so that a test holds a run where it wants it."""

import logging
import sys

from engine import Client, Context, handler


@handler("echo")
def echo(payload: object) -> object:
    return payload


@handler("broken", max_retries=0)
def broken(payload: object) -> None:
    raise ValueError("broken\non two lines \x1b[2J")


@handler("talk")
def talk(payload: dict[str, str], ctx: Context) -> str:
    """Says something on every stream, then stays until the pipe `payload["until"]` is opened and closed."""
    print("on stdout \x1b[31mred", flush=True)
    print("on stderr", file=sys.stderr, flush=True)
    logging.getLogger("mine").warning("in the log")
    ctx.progress(0.5, "half way")
    if "until" in payload:
        with open(payload["until"]) as pipe:
            pipe.read()
    print("the end", flush=True)
    return "talked"


@handler("parent", max_retries=0)
def parent(payload: object) -> object:
    """Waits for a task of its own, in the queue `children`."""
    with Client() as client:
        return client.result(client.submit("echo", payload, queue="children"), wait=50)


@handler("hostile", max_retries=0)
def hostile(payload: dict[str, str], ctx: Context) -> object:
    """Says `payload["says"]` wherever a run can say something; `until` as above. Fails if `fails` is in the payload."""
    print(payload["says"], flush=True)
    print(payload["says"], file=sys.stderr, flush=True)
    logging.getLogger("mine").warning(payload["says"])
    ctx.progress(0.5, payload["says"])
    if "until" in payload:
        with open(payload["until"]) as pipe:
            pipe.read()
    if "fails" in payload:
        raise ValueError(payload["says"])
    return {payload["says"]: [payload["says"]]}
