"""Engines under load in a storm of kills, stops, faults of Redis and set clocks: `./dev chaos --minutes 15 --seed 7`.

Two engines on one Redis, tasks of nine kinds, and somebody who does to all of them what a bad night would. Then all is
healed, every task has to end, and the ledger is made up.
"""

import argparse
import contextlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

from engine import Client
from engine.adapters.redis.keeper.keeper_broker import RedisKeeperBroker
from engine.core.task.lifecycle import FINAL
from engine.errors import BrokerError
from tests.chaos.engine_harness import EngineHarness
from tests.chaos.outages import LOSSES, Outages
from tests.chaos.storm.ledger import Kept, Ledger, judge, kept, report, waits_for_long
from tests.chaos.storm.load import Load
from tests.chaos.storm.nemesis import HIDDEN, Nemesis
from tests.chaos.storm.redis import StormyRedis

SETTLE_S = 150.0  # from the last blow, or the last end of a task after it, to the next
BACK_S_MAX = 5.0  # from Redis's return to the end of a task


class Storm:
    def __init__(self, seed: int, for_s: float, tasks: int, often_s: float, say: Callable[[str], None]) -> None:
        self.say, self.for_s = say, for_s
        chance = Random(seed)
        self.folder = Path(tempfile.mkdtemp(prefix="ganger-storm-"))
        self.lines = self.folder / "lines"
        self.lines.touch()
        self.redis = StormyRedis(chance)
        variables = {"STORM_LINES": str(self.lines), "GANGER_HANDLERS": "tests.chaos.storm.handlers",
                     "GANGER_MAX_CRASHES": "5", "GANGER_HANDLER_INTENSITY": "1000", "GANGER_LOG_LEVEL": "WARNING",
                     "GANGER_RESULT_TTL_S": "1000000", "GANGER_FAILED_TTL_S": "1000000"}
        hidden = HIDDEN if chance.random() < 0.5 and not _why_not_hidden() else ()
        self.trees = [EngineHarness(self.folder / f"engine-{number}", self.redis.server, self.redis.url, {
            **variables, **self.redis.clocks.variables(f"host {number}")}, under) for number, under in enumerate(
                ((), hidden))]
        if hidden:
            say("the second engine lives in a space of process ids of its own")
        for tree in self.trees:
            tree.launch()
        self.load = Load(self.redis.url, Random(seed + 1), tasks, for_s)
        self.nemesis = Nemesis(chance, self.redis, self.trees, often_s)

    def blow(self) -> Ledger:
        self.nemesis.rage(self.for_s)
        self.say(f"{self.nemesis.counts.total()} blows, {len(self.load.entries)} tasks; all is healed")
        healed_s = time.monotonic()
        self._await(lambda: int(not self.load.submitted.is_set()), SETTLE_S)
        with Client(redis_url=self.redis.url) as client:
            broker = client._provider.broker()
            tasks = self._await_ends(lambda: kept(broker), broker.redis.now_ms)
            self.say(f"the last task had ended {time.monotonic() - healed_s:.0f} s after the last blow")
            self.load.close()
            ledger = judge(self.load, tasks, self.lines, broker.redis.now_ms())
            for _ in range(2):  # what was on its way may be seen once
                ledger.wrong["left to mend"] = _reconcile(RedisKeeperBroker(broker))
        return ledger

    def close(self) -> None:
        for tree in self.trees:
            tree.terminate()
        for tree in self.trees:
            tree.root.wait(30)
            tree.client.close()
            shutil.rmtree(tree.folder, ignore_errors=True)
        self.redis.close()

    def _await_ends(self, look: Callable[[], dict[str, Kept]], redis_now_ms: Callable[[], int]) -> dict[str, Kept]:
        """Those of which no client knows the id, since its submit was refused, may want to be cancelled for ever."""
        tasks: dict[str, Kept] = {}

        def left() -> int | None:
            nonlocal tasks
            unknown = {entry.number for entry in self.load.entries if entry.kind == "unwanted" and entry.doubts}
            with contextlib.suppress(BrokerError):
                tasks = look()
                now_ms = redis_now_ms()
                return sum(not (task.state.status in FINAL or task.number in unknown or waits_for_long(
                    task.state, now_ms)) for task in tasks.values())
            return None

        self._await(left, SETTLE_S)
        return tasks

    def _await(self, left: Callable[[], int | None], most_s: float) -> None:
        """Wait until nothing is left of something; at most so long without any of it going. None: nobody knows."""
        least, end_s = None, time.monotonic() + most_s
        while (now := left()) != 0 and time.monotonic() < end_s:
            if now is not None and (least is None or now < least):
                least, end_s = now, time.monotonic() + most_s
            self.nemesis._restart()
            time.sleep(0.25)


def _why_not_hidden() -> str:
    tried = subprocess.run([*HIDDEN, "true"], capture_output=True, text=True, check=False)
    return tried.stderr.strip() if tried.returncode else ""


def _reconcile(keeper: RedisKeeperBroker) -> list[str]:
    wrong, cursor = [], None
    while True:
        look = keeper.audit(cursor)
        wrong += [f"{what} {count}" for what, count in look.repaired.items() if what != "flows"]
        cursor = look.cursor
        if cursor is None:
            return wrong


def play(seed: int, for_s: float, tasks: int, often_s: float, say: Callable[[str], None]) -> Ledger:
    """One storm from its beginning to its end. The logs of the engines stay where something was wrong."""
    storm = Storm(seed, for_s, tasks, often_s, say)
    try:
        for lack in storm.redis.lacks:
            say(lack)
        ledger = storm.blow()
    except BaseException:
        say(f"the engines' logs, and what the runs wrote, are in {storm.folder}")
        raise
    finally:
        storm.close()
    for name, count in sorted(storm.nemesis.counts.items()):
        say(f"  {name:32} {count:6}")
    say(f"  submits refused                  {storm.load.refused:6}")
    say(f"  runs                             {ledger.runs:6}")
    for row in report(ledger):
        say(row)
    if ledger.is_clean:
        shutil.rmtree(storm.folder, ignore_errors=True)
    else:
        (storm.folder / "blows").write_text("\n".join(storm.nemesis.trace))
        say(f"the engines' logs, what the runs wrote and the blows are in {storm.folder}")
    return ledger


def _outages(for_s: float) -> bool:
    folder = Path(tempfile.mkdtemp(prefix="ganger-outages-"))
    outages = Outages(folder)
    print(f"lost for {for_s:<6g} s by   {'new task':>9} {'delayed':>9} {'client':>9}   s until it ended")
    is_soon = True
    try:
        for loss in LOSSES:
            if reason := outages.why_not(loss):
                print(f"{loss:22} not here: {reason}")
                continue
            told = outages.lose(loss, for_s)
            print(f"{loss:22} {told.submit_s:9.2f} {told.delayed_s:9.2f} {max(0.0, told.result_s):9.2f}")
            is_soon = is_soon and told.longest_s <= BACK_S_MAX
    finally:
        outages.close()
        shutil.rmtree(folder, ignore_errors=True)
    return is_soon


def main() -> int:
    parser = argparse.ArgumentParser(prog="./dev chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=15.0, help="how long it rages (default: 15)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tasks", type=int, default=20_000, help="how many are submitted meanwhile (default: 20000)")
    parser.add_argument("--outages", type=float, metavar="S", help="instead: lose Redis in each way, for S seconds")
    parser.add_argument("--often", type=float, default=1.5, help="mean pause between two blows in s (default: 1.5)")
    options = parser.parse_args()
    if options.outages:
        return 0 if _outages(options.outages) else 1
    return 0 if play(options.seed, options.minutes * 60, options.tasks, options.often, print).is_clean else 1


if __name__ == "__main__":
    sys.exit(main())
