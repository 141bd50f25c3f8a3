"""Measures the processes of this engine and publishes what it has found, less often while nothing goes on: talking to
Redis is most of what an idle engine would do."""

import logging
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from engine.adapters.kernel.descendants import descendants
from engine.adapters.kernel.probe import Probe, host_name
from engine.core.measure.usage_history import ENTRY_S, Recorder, names
from engine.errors import BrokerError

QUIET_PERCENT = 2.0  # of a core, of each process
QUIET_S = 5.0  # well before what was published last vanishes
TOGETHER_S = 0.1  # samples that are due so soon are taken in the same awakening

errors = logging.getLogger("ganger.errors")


class SamplePacing:
    """Decides which samples are published."""

    def __init__(self) -> None:
        self._pids: frozenset[int] = frozenset()  # of what was published last
        self._published_s = float("-inf")
        self._is_quiet = False  # they were, when they were looked at last

    def is_awaited(self, now_s: float) -> bool:
        """Return whether the next samples will most likely be published, and are worth a whole look at each process."""
        return not self._is_quiet or now_s >= self._published_s + QUIET_S

    def is_due(self, samples: Mapping[int, Mapping[str, Any]], now_s: float) -> bool:
        """Return whether to publish these samples: always, unless the processes are the same and none does anything."""
        pids = frozenset(samples)
        self._is_quiet = pids == self._pids and all(
            (sample["cpu_percent"] or 0.0) < QUIET_PERCENT for sample in samples.values())
        if self._is_quiet and now_s < self._published_s + QUIET_S:
            return False
        self._pids, self._published_s = pids, now_s
        return True


class ProcessSampler:
    """Takes a sample of each process of the tree at its interval, and publishes it.

    Args:
        publish: takes the host, the root's pid, the samples by pid, and an entry of the history, empty if none is due.
        interval_s: between two samples, in seconds.
        now_ms: Redis's time.
    """

    def __init__(self, publish: Callable[[str, int, Mapping[int, Mapping[str, Any]], bytes], None], interval_s: float,
                 now_ms: Callable[[], int]) -> None:
        self._publish, self._interval_s, self._now_ms = publish, interval_s, now_ms
        self._host, self._root_pid = host_name(), os.getppid()
        self._probe, self._pacing, self._recorder = Probe(self._root_pid, descendants), SamplePacing(), Recorder()
        self._children: dict[str, Any] = {}  # of the root: restarts, and the last death of each
        self._entry_s = 0.0
        self.next_s = 0.0  # when the next sample is due

    def run(self, now_s: float) -> None:
        """Take a sample if it is time. What cannot be published is lost."""
        if now_s < self.next_s - TOGETHER_S:
            return
        self.next_s = now_s + self._interval_s
        samples = self._probe.sample(fully=self._pacing.is_awaited(now_s))
        self._recorder.add(samples)
        for pid, name in names(samples).items():
            samples[pid].update(self._children.get(name, {}))
        if not self._pacing.is_due(samples, now_s):
            return
        entry = b""
        if now_s >= self._entry_s:
            self._entry_s, entry = now_s + ENTRY_S, self._recorder.take(self._now_ms())
        try:
            self._publish(self._host, self._root_pid, samples, entry)
        except BrokerError:
            errors.debug("the sample was not published: Redis is away")

    def learn(self, children: dict[str, Any]) -> None:
        """Take over what the root says of its children.

        Args:
            children: {name: {"restarts", "last_death": {"cause", "at_s"} or None}}, `at_s` by the monotonic clock.
        """
        now_s = time.monotonic()
        for child in children.values():
            death = child["last_death"]
            if death is not None:
                child["last_death"] = {"cause": death["cause"],
                                       "at_ms": self._now_ms() - int((now_s - death["at_s"]) * 1000)}
        self._children = children
