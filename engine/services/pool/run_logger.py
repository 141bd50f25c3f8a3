"""Logs a pool's work: each end of a run that is not a completion, and once a minute the figures.

Completions are logged at level DEBUG only. Above `ROWS_PER_S_MAX` ends in a second the others are only counted: a log
line costs more than a short run does.
"""

import logging
from collections.abc import Callable
from typing import Any

import orjson

from engine.core.pool.slot import Run
from engine.core.task.lifecycle import Move
from engine.core.task.retry import COMPLETED, Verdict
from engine.logs import errors, execution, performance

FIGURES_S = 60.0
ROWS_PER_S_MAX = 50


class RunLogger:
    def __init__(self, monotonic_s: Callable[[], float]) -> None:
        self._monotonic_s = monotonic_s
        self._since_s = monotonic_s()
        self._second, self._rows, self._untold = int(self._since_s), 0, 0
        self._settled, self._steps, self._steps_s, self._slowest_s = 0, 0, 0.0, 0.0

    def ended(self, run: Run, verdict: Verdict, outcome: bytes) -> None:
        """A run has ended; `outcome` is as it goes to Redis, or empty for a run that never began."""
        if verdict is COMPLETED:
            if not execution.isEnabledFor(logging.DEBUG):
                return
        elif verdict.move is Move.RELEASE or not outcome:
            return
        if not self._may_tell(int(self._monotonic_s())):
            self._untold += 1
            return
        parsed = _read(outcome)
        facts = {"task_id": run.task_id.decode(errors="replace"), "task_type": run.task_type, "run": run.number,
                 **{name: parsed.get(name) for name in ("worker", "pid", "cause", "wall_s", "cpu_s", "peak_rss_bytes")}}
        if verdict is COMPLETED:
            execution.debug("a run has completed", extra=facts)
            return
        error = parsed.get("error")
        if not isinstance(error, dict):
            error = {}
        logger, level = (execution, logging.INFO) if verdict.move is Move.CANCEL else (errors, logging.WARNING)
        logger.log(level, "a run has ended", extra=facts | {
            "error": f"{error.get('kind')}: {error.get('message')}", "follows": str(verdict.move),
            "pause_s": round(verdict.pause_s, 3) if verdict.move is Move.RETRY else None})

    def stepped(self, settled: int, took_s: float) -> None:
        """A step came back from Redis; `settled` is how many ends went with it."""
        self._settled, self._steps, self._steps_s = self._settled + settled, self._steps + 1, self._steps_s + took_s
        self._slowest_s = max(self._slowest_s, took_s)

    def tick(self, now_s: float) -> None:
        if self._untold and int(now_s) != self._second:
            errors.warning("more runs have ended than the log has room for", extra={"untold": self._untold})
            self._untold = 0
        if now_s >= self._since_s + FIGURES_S:
            self._tell_figures(now_s - self._since_s)
            self._since_s = now_s
            self._settled, self._steps, self._steps_s, self._slowest_s = 0, 0, 0.0, 0.0

    def _may_tell(self, second: int) -> bool:
        if second != self._second:
            self._second, self._rows = second, 0
        self._rows += 1
        return self._rows <= ROWS_PER_S_MAX

    def _tell_figures(self, during_s: float) -> None:
        if self._settled:
            performance.info("figures", extra={
                "runs": self._settled, "runs_per_s": round(self._settled / during_s, 1), "steps": self._steps,
                "step_ms": round(self._steps_s / self._steps * 1000, 3),
                "slowest_step_ms": round(self._slowest_s * 1000, 3)})


def _read(outcome: bytes) -> dict[str, Any]:
    """The outcome as a dict; empty if it is none, since a handler can write any bytes to its worker's pipe."""
    try:
        parsed = orjson.loads(outcome)
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}
