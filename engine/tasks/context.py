"""What a handler may know and ask of its run: the second argument of a handler that wants one.

    @handler("render")
    def render(payload: dict, ctx: Context) -> dict:
        for done, frame in enumerate(frames):
            ctx.progress(done / len(frames), f"frame {done}")

Nothing here speaks to Redis: reports go over the worker's pipe to the supervisor.
"""

import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

Report = Callable[[float | None, str], None]


def _no_report(fraction: float | None, message: str) -> None:
    """For a run that nobody watches."""


@dataclass(slots=True, eq=False)
class Context:
    """One run of one task.

    Attributes: `task_id`; `task_type`; `name` (what the submitter called it, else the type); `run` (its number, from
    1); `attempt` (runs that failed by themselves, plus 1); `deadline_s` (by time.monotonic(), None without a timeout);
    `traceparent` (the W3C trace context that was given at submit, None without one).
    """

    task_id: str
    task_type: str
    name: str
    run: int = 1
    attempt: int = 1
    deadline_s: float | None = None
    traceparent: str | None = None
    _report: Report = field(default=_no_report, repr=False)
    _shield: Callable[[], AbstractContextManager[None]] = field(default=nullcontext, repr=False)

    def progress(self, fraction: float | None = None, message: str = "") -> None:
        """Say how far the run is: `fraction` from 0 to 1 (None: unknown) and a line of text.

        Cheap enough to call often: more than twenty reports a second are thinned out.
        Raises `ValueError` for a fraction out of bounds.
        """
        if fraction is not None and not 0 <= fraction <= 1:
            raise ValueError(f"progress is a fraction from 0 to 1, not {fraction!r}")
        self._report(None if fraction is None else float(fraction), str(message))

    @property
    def logger(self) -> logging.Logger:
        """A logger named after the task type; what it logs is kept with the run, as all logging is."""
        return logging.getLogger(f"handlers.{self.task_type}")

    @property
    def left_s(self) -> float | None:
        """Seconds until the run is killed; None without a timeout, never below 0."""
        return None if self.deadline_s is None else max(0.0, self.deadline_s - time.monotonic())

    def shield(self) -> AbstractContextManager[None]:
        """A `with` block in which SoftTimeout and TaskInterrupted are not raised; one that is due comes at its end.

        The hard timeout is not held off by it. May be nested.
        """
        return self._shield()
