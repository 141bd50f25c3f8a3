"""The context of a run: the second argument of a handler that takes one.

    @handler("render")
    def render(payload: dict, ctx: Context) -> dict:
        for done, frame in enumerate(frames):
            ctx.progress(done / len(frames), f"frame {done}")

Nothing here uses Redis: reports go through the worker's pipe to the supervisor.
"""

import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

Report = Callable[[float | None, str], None]


def _no_report(fraction: float | None, message: str) -> None:
    """Drop the report, for a run outside of a worker."""


@dataclass(slots=True, eq=False)
class Context:
    """One run of one task.

    Attributes:
        task_id: the id of the task.
        task_type: the name of the handler.
        name: the task's own name, or the task type if it has none.
        run: the number of the run, from 1.
        attempt: how many runs have failed by the handler's own doing, plus 1.
        deadline_s: when the run is killed, in seconds of time.monotonic(); None without a timeout.
        traceparent: the W3C trace context that was given at submit, or None.
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
        """Report the progress of the run. It may be called often: at most twenty reports a second are sent on.

        Args:
            fraction: the part that is done, from 0 to 1; None: unknown.
            message: a line of text.

        Raises `ValueError` for a fraction out of bounds.
        """
        if fraction is not None and not 0 <= fraction <= 1:
            raise ValueError(f"progress is a fraction from 0 to 1, not {fraction!r}")
        self._report(None if fraction is None else float(fraction), str(message))

    @property
    def logger(self) -> logging.Logger:
        """A logger that is named after the task type. Its lines are kept with the run, as those of all loggers are."""
        return logging.getLogger(f"handlers.{self.task_type}")

    @property
    def left_s(self) -> float | None:
        """Seconds until the run is killed, never below 0; None without a timeout."""
        return None if self.deadline_s is None else max(0.0, self.deadline_s - time.monotonic())

    def shield(self) -> AbstractContextManager[None]:
        """Return a context manager: inside it SoftTimeout and TaskInterrupted are not raised, but at its end.

        It does not delay the timeout. It may be nested.
        """
        return self._shield()
