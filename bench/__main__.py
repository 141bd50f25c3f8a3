"""`python -m bench [throughput|latency] [--json] …`: run one benchmark, or all of them."""

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable
from typing import Any

from bench import latency, throughput

BENCHMARKS: dict[str, Callable[..., dict[str, Any]]] = {
    "throughput": throughput.measure,
    "latency": latency.measure,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("name", nargs="?", choices=sorted(BENCHMARKS), help="which one (default: all)")
    parser.add_argument("--tasks", type=int, help="how many tasks")
    parser.add_argument("--transport", choices=("tcp", "unix"), default="tcp", help="to Redis (default: tcp)")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    sizes = {} if options.tasks is None else {"tasks": options.tasks}
    results = {name: measure(transport=options.transport, **sizes) for name, measure in BENCHMARKS.items()
               if options.name in (None, name)}
    if options.json:
        print(json.dumps(results[options.name] if options.name else results, indent=2))
        return 0
    print(f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    for name, figures in results.items():
        print(f"\n{name}")
        for figure, value in figures.items():
            print(f"  {figure:32} {value:>12}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
