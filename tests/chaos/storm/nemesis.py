"""What is done to the engines: kill -9 and SIGSTOP of each kind of process, and of whole trees; deploys of older,
foreign and broken code; set clocks; and faults of Redis.

A tree is stopped without its workers, so that its runs go on while it cannot end them, or as a whole. One that lives in
a space of process ids of its own is not stopped: nobody else could end what is left of it.
"""

import contextlib
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from heapq import heappop, heappush
from itertools import count
from random import Random

from tests.chaos.engine_harness import EngineHarness
from tests.chaos.storm import deploys
from tests.chaos.storm.redis import StormyRedis

HIDDEN = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")  # from the keepers of the other engines
STOPS_S_MAX = 30.0  # twice a lease
KINDS = ("root", "pool", "fork server", "worker", "worker", "keeper")
TICK_S = 0.05


class Nemesis:
    """`counts` has the blows by name. A root that has ended is started anew, as a service manager would."""

    def __init__(self, chance: Random, redis: StormyRedis, trees: list[EngineHarness], often_s: float) -> None:
        self.chance, self.redis, self.trees, self.often_s = chance, redis, trees, often_s
        self.counts: Counter[str] = Counter()
        self.trace: list[str] = []
        self._due: list[tuple[float, int, Callable[[], object]]] = []
        self._numbers = count()
        self._began_s = time.monotonic()

    def rage(self, for_s: float) -> None:
        end_s = time.monotonic() + for_s
        strike_s = 0.0
        for nth, modules in enumerate((deploys.OLDER, deploys.BROKEN, deploys.FOREIGN)):  # in each storm once at least
            tree = self.trees[nth % len(self.trees)]
            self._later(for_s * (nth + 1) / 5, partial(self._deploy, tree, modules))
        while (now_s := time.monotonic()) < end_s:
            self._undo(now_s)
            self._restart()
            if now_s >= strike_s:
                strike_s = now_s + self.chance.expovariate(1 / self.often_s)
                self._strike()
            time.sleep(TICK_S)
        self.heal()

    def heal(self) -> None:
        self._undo(float("inf"))
        self.redis.heal()
        for tree in self.trees:
            self._deploy(tree, deploys.FULL)
        self._restart()

    def _strike(self) -> None:
        if self.chance.random() < 0.4 and self.redis.is_well:
            name, for_s = self.redis.strike()
            self._note(f"redis: {name}", for_s)
            if not self.redis.is_well:
                self._later(for_s, self.redis.heal)
            return
        number = self.chance.randrange(len(self.trees))
        choice = self.chance.random()
        if choice < 0.05 and not self.redis.clocks.lack:
            self.redis.clocks.set(f"host {number}", self.chance.choice([-600, -2, 2, 600]))
            self._note("clock of a host", 0.0)
        elif choice < 0.12:
            self._deploy(self.trees[number], self.chance.choice(deploys.KINDS))
        elif choice < 0.6:
            self._signal(self.trees[number], signal.SIGKILL)
        elif choice < 0.7 and not self.trees[number].under:
            self._stop_tree(self.trees[number])
        else:
            self._signal(self.trees[number], signal.SIGSTOP)

    def _deploy(self, tree: EngineHarness, modules: str) -> None:
        """Its root drains, and the next one has other code."""
        if tree.variables.get("GANGER_HANDLERS") != modules:
            tree.variables = {**tree.variables, "GANGER_HANDLERS": modules}
            tree.root.terminate()
            self._note(f"deploy {modules.rpartition('.')[2]}", 0.0)

    def _stop_tree(self, tree: EngineHarness) -> None:
        is_whole = self.chance.random() < 0.3
        found = tree.processes().items()
        pids = [pid for pid, title in found if is_whole or not title.startswith("ganger: worker")]
        for_s = self.chance.uniform(0, STOPS_S_MAX)
        for pid in pids if self.chance.random() < 0.5 else reversed(pids):
            with contextlib.suppress(ProcessLookupError):
                pidfd = os.pidfd_open(pid)
                self._later(for_s, partial(_thaw, pidfd))
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(pidfd, signal.SIGSTOP)
        self._note("stop a whole tree" if is_whole else "stop a tree but its workers", for_s)

    def _signal(self, tree: EngineHarness, which: signal.Signals) -> None:
        kind = self.chance.choice(KINDS[1:] if tree.under and which is signal.SIGSTOP else KINDS)
        pids = [tree.root.pid] if kind == "root" else tree.pids(kind)
        if not pids:
            return
        with contextlib.suppress(ProcessLookupError):
            pidfd = os.pidfd_open(self.chance.choice(pids))
            try:
                signal.pidfd_send_signal(pidfd, which)
            except ProcessLookupError:
                os.close(pidfd)
                return
            if which is signal.SIGKILL:
                os.close(pidfd)
                self._note(f"kill {kind}", 0.0)
            else:
                for_s = self.chance.choice([self.chance.uniform(0, 1), self.chance.uniform(0, 5),
                                            self.chance.uniform(0, 25)])
                self._note(f"stop {kind}", for_s)
                self._later(for_s, lambda: _thaw(pidfd))

    def _restart(self) -> None:
        for tree in self.trees:
            if tree.root.poll() is not None:
                is_expected = tree.variables.get("GANGER_HANDLERS") == deploys.BROKEN or not tree.root.returncode
                if tree.root.returncode != -signal.SIGKILL and not is_expected:
                    self._note(f"root ended by itself with {tree.root.returncode}", 0.0)
                tree.launch()

    def _later(self, after_s: float, do: Callable[[], object]) -> None:
        heappush(self._due, (time.monotonic() + after_s, next(self._numbers), do))

    def _undo(self, until_s: float) -> None:
        while self._due and self._due[0][0] <= until_s:
            heappop(self._due)[2]()

    def _note(self, what: str, for_s: float) -> None:
        self.counts[what] += 1
        self.trace.append(f"{time.monotonic() - self._began_s:8.2f}  {what}" + (f" for {for_s:.2f} s" if for_s else ""))


def _thaw(pidfd: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGCONT)
    os.close(pidfd)
