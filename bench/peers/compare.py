"""`python -m bench compare`: the same work on Ganger and on other task queues, in turn, with ratios.

No-op tasks with a payload of 100 bytes, two workers, results kept, one Redis over loopback; every peer with the
settings that were found to serve it best. Pools of processes (ProcessPoolExecutor, multiprocessing.Pool, loky, Dask,
Ray) are compared by how many results a second come into the caller's hands. In each round every engine is measured
once. Of each figure the best round counts, for all alike: whatever else the machine does can only take away.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from bench import latency, machine, results, rig, submit, throughput
from bench.peers import environment, isolation, table
from bench.peers.drive import drive
from bench.peers.driver import PEERS
from bench.peers.peer import PHASE_VARIABLE, URL_VARIABLE
from bench.peers.pools import POOLS

PHASES = ("submit", "throughput", "latency")
PHASE_S_MAX = 60.0
ISOLATION_RUNS = 10  # of each kind
Engines = dict[str, dict[str, Any]]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench compare", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peers", nargs="*", choices=[*PEERS, *POOLS, []], metavar="PEER",
                        help=f"which ones (default: all that can run here): {', '.join([*PEERS, *POOLS])}")
    parser.add_argument("--rounds", type=int, default=3, help="(default: 3)")
    parser.add_argument("--scale", type=float, default=1.0, help="of the number of tasks (default: 1)")
    parser.add_argument("--rt", action="store_true",
                        help="with real-time priority, all alike and by turns (SCHED_RR: Node stands still with "
                        "SCHED_FIFO); needs root")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--output", type=Path, help="write the JSON document to a file, beside what is printed")
    parser.add_argument("--isolation", action="store_true",
                        help="instead: what hangs, crashes and forks, on Celery, RQ and pebble beside; two minutes")
    options = parser.parse_args(arguments)
    if options.rt and not options.isolation:
        machine.take_precedence(os.SCHED_RR)
    environment.set_up()
    told = machine.describe()
    if options.isolation:
        document = {**told, "engines": isolation.measure(max(2, int(ISOLATION_RUNS * options.scale)))}
    else:
        document = {**told, "rounds": options.rounds, "engines": measure(
            options.peers or [*PEERS, *POOLS], options.rounds, options.scale)}
    text = json.dumps(document, indent=2, ensure_ascii=False)
    if options.output:
        options.output.write_text(text + "\n")
    render = isolation.render if options.isolation else table.render
    print(text if options.json else machine.headline(told) + "\n\n" + render(document["engines"]))
    return int(any("error" in engine for engine in document["engines"].values()))


def measure(peers: list[str], rounds: int, scale: float) -> Engines:
    """Each engine's label, versions, settings and best figures, by name; "error" where it could not be measured."""
    engines: Engines = {"ganger": {
        "label": "Ganger", "is_isolated": True, "versions": machine.describe()["versions"],
        "settings": "2 worker processes; leases, fencing, events and stored results on, as always"}}
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in ("ganger", *peers)}
    absent = {name: reason for name in peers if (reason := environment.missing(name))}
    for number in range(rounds):
        found["ganger"].append(_ganger(scale))
        for name in peers:
            if name in absent:
                continue
            _say(f"round {number + 1} of {rounds}: {name}")
            told = _pool(name, scale) if name in POOLS else _peer(name, scale)
            engines[name] = {**engines.get(name, {}), **told}
            if "figures" in told:
                found[name].append(told["figures"])
    for name, reason in absent.items():
        engines[name] = {"label": name, "absent": reason}
    for name, runs in found.items():
        if runs:
            engines[name].pop("error", None)  # of a round that failed; the others count
            engines[name]["figures"] = {what: _best(what)(run[what] for run in runs) for what in runs[0]}
            engines[name]["runs"] = runs
    return engines


def _best(figure: str) -> Callable[[Iterable[float]], float]:
    return max if figure.endswith("_per_s") else min


def _ganger(scale: float) -> dict[str, Any]:
    """Ganger's figures under the peers' names."""
    drained = throughput.measure(tasks=max(2_000, int(40_000 * scale)))
    submitted = submit.measure(tasks=max(2_000, int(60_000 * scale)))
    in_hand = results.measure(tasks=max(2_000, int(20_000 * scale)))
    idle = latency.measure(tasks=max(100, int(400 * scale)))
    return {
        "tasks": drained["tasks"], "tasks_per_s": drained["tasks_per_s"],
        "redis_us_per_task": drained["redis_us_per_task"], "queued_bytes_per_task": drained["queued_bytes_per_task"],
        "submit_per_s": submitted["submit_per_s"], "submit_many_per_s": submitted["submit_many_per_s"],
        "results_per_s": in_hand["results_per_s"], "as_completed_per_s": in_hand["as_completed_per_s"],
        **{name: value for name, value in idle.items() if "_ms_" in name}}


def _peer(name: str, scale: float) -> dict[str, Any]:
    """One peer's round: each phase in a process and on a Redis of its own."""
    told: dict[str, Any] = {}
    figures: dict[str, Any] = {}
    for phase in PHASES:
        with rig.redis_server() as url:
            variables = {**os.environ, **environment.variables(), URL_VARIABLE: url, PHASE_VARIABLE: phase}
            command = [environment.python(), "-m", "bench.peers.driver", name, "--phase", phase, "--scale", str(scale)]
            try:
                told = drive(command, variables, PHASE_S_MAX)
            except RuntimeError as error:
                return {"label": name, "error": f"{phase}: {error}"}
        figures |= told["figures"]
    return {**told, "figures": figures}


def _pool(name: str, scale: float) -> dict[str, Any]:
    command = [environment.python(), "-m", "bench.peers.pools", name, "--scale", str(scale)]
    try:
        return drive(command, {**os.environ, **environment.variables()}, PHASE_S_MAX)
    except RuntimeError as error:
        return {"label": name, "error": str(error)}


def _say(text: str) -> None:
    if sys.stderr.isatty() or os.environ.get("CI"):
        print(text, file=sys.stderr)
