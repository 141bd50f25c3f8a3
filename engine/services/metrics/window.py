"""The metrics of the last hour, from the stream of events: how many tasks ended, how, and how long they took.

Every end is counted. Its details are read from Redis, for up to 1,000 ends a second; beyond that a part stands for all.
Everything here is bounded.
"""

import statistics
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from engine.core.task.lifecycle import TaskStatus
from engine.core.task.stored_task import StoredTask
from engine.ports.event_stream import StreamEntry

WINDOW_S_MAX = 3600
ENDS_MAX = 50_000  # details kept
READ_PER_S = 1_000
GROUPS_MAX = 100  # queues or types told apart


class End(NamedTuple):
    """One task that ended."""

    at_s: float
    queue: str
    task_type: str
    status: TaskStatus
    cause: str
    wait_s: float | None
    wall_s: float | None
    cpu_s: float
    rss_bytes: int | None


class MetricsWindow:
    """Filled by one task of the event loop, read by threads, which get copies. `clock` gives seconds since 1970."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self.since_s = clock()
        self.ends: deque[End] = deque(maxlen=ENDS_MAX)
        self.seconds: deque[tuple[int, Counter[str]]] = deque(maxlen=WINDOW_S_MAX)
        self._read = (0, 0)  # second, details read in it
        self.gaps = 0  # how often events were gone before they could be counted

    def count(self, entries: Iterable[StreamEntry]) -> list[str]:
        """Count events; return the ids of tasks that ended and whose details are to be read."""
        wanted: list[str] = []
        for entry in entries:
            second = entry.at_ms // 1000
            if not self.seconds or self.seconds[-1][0] != second:
                self.seconds.append((second, Counter()))
            counts = self.seconds[-1][1]
            for event in entry.events:
                counts[event.status] += 1
                if event.status.is_final and self._may_read(second):
                    wanted.append(event.id)
        return wanted

    def learn(self, found: Iterable[StoredTask | None]) -> list[End]:
        """Keep the details of tasks that ended, and return them."""
        ends = [end_of(stored) for stored in found if stored is not None and stored.state.status.is_final]
        self.ends.extend(ends)
        return ends

    def counts(self, window_s: int) -> Counter[str]:
        """Return how many tasks came into each status within the last `window_s` seconds."""
        first, total = int(self._clock()) - window_s, Counter[str]()
        for second, counts in list(self.seconds):
            if second >= first:
                total.update(counts)
        return total

    def within(self, window_s: int) -> list[End]:
        """Return the ends of the last `window_s` seconds whose details are known."""
        first_s = self._clock() - window_s
        return [end for end in list(self.ends) if end.at_s >= first_s]

    def _may_read(self, second: int) -> bool:
        current, read = self._read
        self._read = (second, read + 1 if current == second else 1)
        return self._read[1] <= READ_PER_S


def end_of(stored: StoredTask) -> End:
    """Return what the metrics need of a task that has ended. The wait is known of a first run only."""
    outcome = stored.outcome or {}
    record = stored.record
    started_ms, ended_ms = outcome.get("started_ms"), outcome.get("ended_ms") or stored.state.at_ms
    waited_ms = None if started_ms is None or stored.state.run != 1 else max(
        0, started_ms - max(record.created_ms, record.options.get("due_ms", 0)))
    names = [sys.intern(str(name)) for name in (record.queue, record.task_type, outcome.get("cause"))]
    return End(ended_ms / 1000, names[0], names[1], stored.state.status, names[2],
               None if waited_ms is None else waited_ms / 1000, outcome.get("wall_s"), outcome.get("cpu_s") or 0.0,
               outcome.get("peak_rss_bytes"))


class Quantiles(NamedTuple):
    """In the unit of the values; None where there were none."""

    p50: float | None = None
    p90: float | None = None
    p95: float | None = None
    p99: float | None = None
    max: float | None = None


class Summary(NamedTuple):
    """What tasks that ended within a window of time come to."""

    ended: int
    per_s: float
    by_status: dict[str, int]
    by_cause: dict[str, int]
    success_rate: float | None  # COMPLETED among those that ended, cancelled ones left out
    wait_s: Quantiles
    run_s: Quantiles
    cpu_s: float
    peak_rss_bytes: int | None


def summarize(ends: Sequence[End], window_s: float) -> Summary:
    """Return what these ends come to, which happened within `window_s` seconds."""
    by_status = Counter(str(end.status) for end in ends)
    judged = sum(by_status.values()) - by_status["CANCELLED"]
    return Summary(
        ended=len(ends), per_s=round(len(ends) / window_s, 3), by_status=dict(by_status),
        by_cause=dict(Counter(end.cause for end in ends)),
        success_rate=round(by_status["COMPLETED"] / judged, 6) if judged else None,
        wait_s=percentiles([end.wait_s for end in ends if end.wait_s is not None]),
        run_s=percentiles([end.wall_s for end in ends if end.wall_s is not None]),
        cpu_s=round(sum(end.cpu_s for end in ends), 6),
        peak_rss_bytes=max((end.rss_bytes for end in ends if end.rss_bytes is not None), default=None))


def summarize_by(ends: Sequence[End], key: Callable[[End], str], window_s: float) -> dict[str, Summary]:
    """Return the same for each of the GROUPS_MAX groups with the most ends; `key` names the group of an end."""
    groups: dict[str, list[End]] = {}
    for end in ends:
        groups.setdefault(key(end), []).append(end)
    largest = sorted(groups.items(), key=lambda item: -len(item[1]))[:GROUPS_MAX]
    return {name: summarize(members, window_s) for name, members in largest}


def percentiles(values: Sequence[float]) -> Quantiles:
    """Return below which value so many percent of the values are, interpolated between neighbours."""
    if not values:
        return Quantiles()
    if len(values) == 1:
        return Quantiles(*(values[0],) * 5)
    hundredths = statistics.quantiles(values, n=100, method="inclusive")
    return Quantiles(hundredths[49], hundredths[89], hundredths[94], hundredths[98], max(values))
