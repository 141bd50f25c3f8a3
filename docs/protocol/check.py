"""Check the model in `lease.pml` with spin: what must hold holds, and each broken variant is found broken.

    ./dev protocol            the scenarios of CI, about half a minute on two idle cores
    ./dev protocol --deep     more faults at once; some minutes and some gigabytes

Needs spin and gcc. The exit code is 1 if anything is not as the table says it must be.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

MODEL = Path(__file__).with_name("lease.pml")
TWO, LONE = "-DN=2 -DCRASHES=0", "-DN=2 -DLONE"
LIVE = "-DLIVE -DL=3"
LIMIT_S = 600


@dataclass(frozen=True)
class Scenario:
    """`flags` choose the faults; `is_broken` says that spin has to find a counterexample."""

    name: str
    flags: str
    is_broken: bool = False


def faults(cuts: int = 0, jumps: int = 0, keeper_crashes: int = 0, runs: int | None = None) -> str:
    bound = "" if runs is None else f" -DRUNS={runs}"
    return f"-DCUTS={cuts} -DJUMPS={jumps} -DKEEPER_CRASHES={keeper_crashes}{bound}"


HOLDS = [
    Scenario("a connection is cut, its last request lost or late", f"{TWO} {faults(cuts=1, runs=2)}"),
    Scenario("Redis's clock jumps", f"{TWO} {faults(jumps=1, runs=2)}"),
    Scenario("a supervisor dies, its successor is cut off", f"{LONE} -DCRASHES=1 {faults(cuts=1)}"),
    Scenario("a supervisor and the keeper die, the clock jumps",
             f"{LONE} -DCRASHES=1 {faults(jumps=1, keeper_crashes=1)}"),
    Scenario("a task that may be started once, a cut and a dead keeper",
             f"-DONCE {TWO} {faults(cuts=1, keeper_crashes=1, runs=2)}"),
    Scenario("two tasks, a supervisor dies", f"-DTASKS=2 {LONE} -DCRASHES=1 {faults(runs=2)}"),
    Scenario("every task ends: a cut, a dead keeper, a jump", f"{LIVE} {TWO} {faults(1, 1, 1)}"),
    Scenario("every task ends: a dead supervisor, a cut, a jump", f"{LIVE} {LONE} -DCRASHES=1 {faults(1, 1, 0)}"),
]
DEEP = [
    Scenario("a cut, three runs", f"{TWO} {faults(cuts=1)}"),
    Scenario("a cut and a jump", f"{TWO} {faults(cuts=1, jumps=1, runs=2)}"),
    Scenario("two cuts", f"{TWO} {faults(cuts=2, runs=2)}"),
    Scenario("a longer lease", f"-DL=3 {TWO} {faults(cuts=1)}"),
    Scenario("two tasks", f"-DTASKS=2 {TWO} {faults(runs=2)}"),
    Scenario("every task ends: two cuts, everything dies once", f"{LIVE} {LONE} -DCRASHES=1 {faults(2, 1, 1)}"),
    Scenario("every task ends: two tasks and a cut", f"{LIVE} -DTASKS=2 {TWO} {faults(cuts=1)}"),
]
BROKEN = [
    Scenario("without the fence: any run number settles", f"-DNO_RUN_NUMBER {TWO} {faults(cuts=1)}", True),
    Scenario("a late recover is heeded", f"-DNO_RECOVER_NUMBER {TWO} {faults(cuts=1)}", True),
    Scenario("the keeper does not wait for the lease", f"-DRESCUE_AT_ONCE {TWO} {faults()}", True),
    Scenario("the keeper believes Redis's clock alone", f"-DBELIEVE_THE_CLOCK {TWO} {faults(jumps=1)}", True),
    Scenario("a supervisor starts what came too late", f"-DSTART_LATE {TWO} {faults(cuts=1)}", True),
    Scenario("a supervisor does not fence itself", f"-DNO_SELF_FENCE {TWO} {faults(cuts=1)}", True),
    Scenario("recover forgets what has ended and is not told",
             f"-DONCE -DFORGET_DECIDED {TWO} {faults(cuts=1, runs=2)}", True),
    Scenario("nobody recovers", f"-DNO_RECOVER {LIVE} {TWO} {faults(cuts=1)}", True),
]


def check(scenario: Scenario) -> tuple[Scenario, bool, str]:
    """Whether spin found what it must, and the row of the table."""
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="ganger-spin-") as folder:
        told = _verify(scenario, Path(folder))
    states = re.search(r"(\S+) states, stored", told)
    errors = re.search(r"errors: (\d+)", told)
    found = errors is not None and errors[1] != "0"
    is_right = found if scenario.is_broken else errors is not None and not found and "not completed" not in told
    word = "no answer" if errors is None else "counterexample" if found else "holds"
    row = (f"{'ok  ' if is_right else 'FAIL'}  {word:<14} {states[1] if states else '?':>10} states "
           f"{time.monotonic() - began_s:6.1f} s  {scenario.name}")
    return scenario, is_right, row if is_right else f"{row}\n{told[-600:]}"


def _verify(scenario: Scenario, folder: Path) -> str:
    """What pan says of the scenario. Breadth first for what must never happen: its counterexamples are the shortest."""
    flags, is_live = scenario.flags.split(), "-DLIVE" in scenario.flags
    shutil.copy(MODEL, folder)
    compiler = ["gcc", "-O1", "-w", "-DCOLLAPSE", *(["-DNFAIR=4"] if is_live else ["-DSAFETY", "-DNOCLAIM", "-DBFS"])]
    for command in (["spin", "-a", *flags, MODEL.name], [*compiler, "-o", "pan", "pan.c"]):
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            return done.stdout + done.stderr
    run = ["./pan", *(["-a", "-f"] if is_live else []), "-m200000", "-w22"]
    try:
        return subprocess.run(run, cwd=folder, capture_output=True, text=True, check=False, timeout=LIMIT_S).stdout
    except subprocess.TimeoutExpired:
        return f"no end after {LIMIT_S} s"


def main() -> int:
    parser = argparse.ArgumentParser(prog="./dev protocol", description="Check the model of the lease protocol.")
    parser.add_argument("--deep", action="store_true", help="more faults at once; takes minutes")
    deep = parser.parse_args().deep
    missing = [name for name in ("spin", "gcc") if shutil.which(name) is None]
    if missing:
        print(f"{' and '.join(missing)} needed: apt-get install spin gcc", file=sys.stderr)
        return 1
    scenarios = [*HOLDS, *(DEEP if deep else []), *BROKEN]
    is_right = True
    with ThreadPoolExecutor(2) as threads:
        for scenario, well, row in threads.map(check, scenarios):
            if scenario is BROKEN[0]:
                print("broken on purpose, each to be found out:")
            print(row, flush=True)
            is_right &= well
    return 0 if is_right else 1


if __name__ == "__main__":
    sys.exit(main())
