"""`python -m bench [NAME …] [--json] [--rt]`: run the benchmarks, print one table with their targets.

`python -m bench compare` runs the same work on other task queues; see `python -m bench compare --help`.
"""

import argparse
import importlib
import inspect
import json
import os
import sys
import time
from typing import Any

import redis

from bench import machine, table
from engine.errors import GangerError

# A benchmark is a module of this folder with a function `measure`, which gives its figures by name. They stand in the
# table with their units and targets if targets.py has them, else as they are.
BENCHMARKS = (
    "throughput",
    "results",
    "submit",
    "latency",
    "idle",
    "sampling",
    "memory",
    "depth",
    "distance",
    "payloads",
    "mixed",
    "workers",
    "features",
    "isolation",
    "urgent",
    "scaling",
    "api",
)
# Their handlers burn CPU for long. At real-time priority they would keep the engine itself from its turn.
NEVER_REAL_TIME = ("isolation", "urgent")
FAILURES = (AssertionError, OSError, RuntimeError, ValueError, ImportError, GangerError, redis.RedisError)


def main() -> int:
    options = _parser().parse_args()
    names = [*options.names, *options.only] or list(BENCHMARKS)
    told, results = machine.describe(), {}
    for name in names:
        if options.rt:
            machine.give_way() if name in NEVER_REAL_TIME else machine.take_precedence()
        begin_s = time.perf_counter()
        results[name] = _measure(name, options)
        _say(f"{name}: {time.perf_counter() - begin_s:.1f} s")
    failed = any("error" in figures for figures in results.values())
    if options.json:
        flat = results[names[0]] if len(names) == 1 else {}
        print(json.dumps({**flat, **told, "figures": results}, indent=2, ensure_ascii=False))
        return int(failed)
    print(machine.headline(told) + "\n\n" + table.render(results))
    missed, judged = table.missed(results)
    print(f"\n{judged - missed} of {judged} targets met")
    return int(failed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*BENCHMARKS, []], metavar="NAME",
                        help=f"which ones (default: all): {', '.join(BENCHMARKS)}")
    parser.add_argument("--only", action="append", default=[], choices=list(BENCHMARKS), metavar="NAME",
                        help="the same as an option; may be repeated")
    parser.add_argument("--tasks", type=int, help="how many tasks, in those that let you choose")
    parser.add_argument("--transport", choices=("tcp", "unix"), default="tcp", help="to Redis (default: tcp)")
    parser.add_argument("--rt", action="store_true",
                        help="with real-time priority, on a machine that does something else beside; needs root. "
                        f"Never for {' and '.join(NEVER_REAL_TIME)}")
    parser.add_argument("--json", action="store_true",
                        help="print one JSON document: figures, machine, versions, commit; of a single benchmark, "
                        "its figures stand at the top too")
    return parser


def _measure(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """The figures; or the error, so that the others are still taken."""
    given = {"tasks": options.tasks, "transport": options.transport}
    try:
        measure = importlib.import_module(f"bench.{name}").measure
        known = inspect.signature(measure).parameters
        figures: dict[str, Any] = measure(
            **{key: value for key, value in given.items() if key in known and value is not None})
    except FAILURES as error:
        return {"error": f"{type(error).__name__}: {error}"}
    return figures


def _say(text: str) -> None:
    if sys.stderr.isatty() or os.environ.get("CI"):
        print(text, file=sys.stderr)


if __name__ == "__main__":
    if sys.argv[1:2] == ["compare"]:
        from bench.peers import compare

        sys.exit(compare.main(sys.argv[2:]))
    sys.exit(main())
