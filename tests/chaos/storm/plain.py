"""What all versions of the handlers of a storm have in common."""

import os

from engine import Context

CRASHES_MAX = 1_000_000  # of tasks whose workers only we kill


def note(letter: str, ctx: Context) -> None:
    """One line, whole and in the order in which it happened: that is what O_APPEND promises."""
    lines = os.open(os.environ["STORM_LINES"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(lines, f"{letter} {ctx.task_id} {ctx.run} {os.getpid()}\n".encode())
    finally:
        os.close(lines)
