"""What is measured of an engine's isolation, in the same way for all: with one worker, a task that goes wrong, and
another that waits behind it.

Death is what the kernel says (a pidfd), the deadline is the task's own start plus its limit, and the replacement is
ready when the next task's first line runs. Knows an engine as something that sends tasks by name; runs in the peers'
environment too.
"""

import statistics
import time
from pathlib import Path
from typing import Any, Protocol

from bench.marks import await_death, await_mark

BEGIN_S = 60.0  # until a task has begun
DEATH_S_MAX = 15.0  # after its deadline: longer is told as this
ORPHAN_S = 2.0  # for a child of a task to be gone after it
BURN_S = 2.0  # of a task that something urgent waits behind
Figures = dict[str, Any]


class Engine(Protocol):
    """One worker, and a queue before it."""

    def send(self, name: str, *arguments: Any, limit_s: float | None = None, urgent: bool = False) -> None:
        """Submit a task of `isolation_tasks` by its name."""


class Scenarios:
    """`limit_s` is how long a task may take; `folder` is for the marks."""

    def __init__(self, engine: Engine, folder: Path, limit_s: float) -> None:
        self.engine, self.folder, self.limit_s = engine, folder, limit_s
        self._marks = 0

    def hang(self, name: str, runs: int) -> Figures:
        """Milliseconds from the deadline to the death, and from the death to the next task."""
        found = []
        for _ in range(runs):
            found.append(self._hang(name))
            if found[-1] is None:
                return {f"{name}_death_ms_p50": None, f"{name}_not_dead_after_s": DEATH_S_MAX}
        deaths, replaced = zip(*(one for one in found if one is not None), strict=True)
        return {**_summary(f"{name}_death_ms", deaths), **_summary(f"{name}_replaced_ms", replaced)}

    def orphans(self) -> Figures:
        """Whether what a task has started outlives it: 0 or 1."""
        mark = self._mark()
        self.engine.send("family", mark, limit_s=self.limit_s)
        child, _ = await_mark(mark, BEGIN_S)
        return {"orphans": int(await_death(child, self.limit_s + ORPHAN_S) is None)}

    def storm(self, crashes: int) -> Figures:
        """Crashes a second, until the task behind them has begun."""
        begin_s, mark = time.monotonic(), self._mark()
        for _ in range(crashes):
            self.engine.send("abort")
        self.engine.send("moment", mark)
        await_mark(mark, BEGIN_S)
        return {"storm_crashes_per_s": round(crashes / (time.monotonic() - begin_s), 1)}

    def urgent(self, runs: int, burn_s: float = BURN_S, *, anew: bool = True) -> Figures:
        """Milliseconds until an urgent task begins that comes when one burns CPU for a tenth of a second: one for each
        (`anew`), or one for all, if that outlasts them."""
        found = []
        for number in range(runs):
            mark = self._mark()
            if anew or not number:
                burning = self._mark()
                self.engine.send("spin", burning, burn_s)
                await_mark(burning, BEGIN_S)
            time.sleep(0.1)
            begin_ns = time.monotonic_ns()
            self.engine.send("moment", mark, urgent=True)
            found.append((await_mark(mark, BEGIN_S)[1] - begin_ns) / 1e6)
        return _summary("urgent_start_ms", found)

    def _hang(self, name: str) -> tuple[float, float] | None:
        mark, following = self._mark(), self._mark()
        self.engine.send(name, mark, limit_s=self.limit_s)
        self.engine.send("moment", following)
        pid, began_ns = await_mark(mark, BEGIN_S)
        dead_ns = await_death(pid, self.limit_s + DEATH_S_MAX)
        if dead_ns is None:
            return None
        _, started_ns = await_mark(following, BEGIN_S)
        return (dead_ns - began_ns) / 1e6 - self.limit_s * 1e3, (started_ns - dead_ns) / 1e6

    def _mark(self) -> str:
        self._marks += 1
        return str(self.folder / str(self._marks))


def _summary(name: str, values: Any) -> Figures:
    return {f"{name}_p50": round(statistics.median(values), 3), f"{name}_max": round(max(values), 3)}
