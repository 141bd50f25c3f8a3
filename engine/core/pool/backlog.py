"""Runs that are claimed and not sent to a worker yet, and those that come back because a worker did not begin them.

A run leaves the backlog to a worker, or is given back to Redis: after `BACKLOG_S_MAX`, so that another pool may have
it, when the pool drains, and while its handler is stopped.
"""

from collections import deque
from collections.abc import Iterable, Set

from engine.core.pool.actions import Action, Stopped
from engine.core.pool.breaker import Breaker
from engine.core.pool.ending import Ending
from engine.core.pool.slot import NEVER, Run, Slot

BACKLOG_S_MAX = 0.1


class Backlog:
    """`runs` are in the order in which they are handed out. `actions` and `ending` are the dispatcher's."""

    def __init__(self, actions: list[Action], ending: Ending, breaker: Breaker) -> None:
        self.runs: deque[Run] = deque()
        self.actions, self.ending, self.breaker = actions, ending, breaker

    def take_in(self, runs: Iterable[Run], now_s: float) -> None:
        """Runs were claimed: they are ours to settle from now on."""
        ours = self.ending.runs
        for run in runs:
            run.since_s = now_s
            ours[run.task_id] = run
            self.runs.append(run)
        if self.breaker.stops:
            self._hold_back(now_s)

    def put_back_unread(self, slot: Slot, unread: Set[int], *, draining: bool) -> list[Run]:
        """Runs come back that the worker in a slot has not begun: they are next, unless they are to end.

        `unread` are their tokens. Returns the worker's other runs: it may have begun them.
        """
        for run in reversed(slot.runs):
            if run.token not in unread:
                continue
            if run.cancelled is not None:
                self.ending.cancelled(run)
            elif draining:
                self.ending.released(run)
            else:
                self.runs.appendleft(run)
        return [run for run in slot.runs if run.token not in unread]

    def release(self) -> None:
        """Give all runs back."""
        while self.runs:
            self.ending.released(self.runs.popleft())

    def release_old(self, now_s: float) -> None:
        """Give the runs back that have found no worker for too long."""
        while self.runs and now_s >= self.next_deadline_s():
            self.ending.released(self.runs.popleft())

    def next_deadline_s(self) -> float:
        """When `release_old` has something to do."""
        return self.runs[0].since_s + BACKLOG_S_MAX if self.runs else NEVER

    def count_death(self, task_type: str, now_s: float) -> None:
        """A worker died under a run of this handler, which may stop the handler for a while."""
        stop = self.breaker.died(task_type, now_s)
        if stop is not None:
            self.actions.append(Stopped(task_type, stop.pause_s, stop.deaths))
            self._hold_back(now_s)

    def _hold_back(self, now_s: float) -> None:
        """Give the runs of stopped handlers back, to be run again after the pause."""
        for run in list(self.runs):
            stop = self.breaker.stop_of(run.task_type, now_s)
            if stop is not None:
                self.runs.remove(run)
                self.ending.held_back(run, stop.until_s - now_s, stop.deaths)
