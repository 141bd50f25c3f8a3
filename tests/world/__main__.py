"""python -m tests.world [--seeds COUNT] [--first SEED] | --seed SEED: see the package."""

import argparse
import logging
import sys
import time
import traceback
from collections import Counter
from concurrent.futures import ProcessPoolExecutor

from tests.world.world import play


def broken(seed: int) -> tuple[int, str, dict[str, int]]:
    """Play one world. Return its seed, the traceback of a broken promise or "", and counts of what happened."""
    logging.disable(logging.CRITICAL)
    try:
        return seed, "", play(seed).counts
    except Exception:
        return seed, traceback.format_exc(), {}


def search(first: int, count: int, processes: int) -> tuple[dict[int, str], Counter[str]]:
    """Play worlds. Return the tracebacks by seed, and counts of what happened in all of them."""
    failures, counts = {}, Counter[str]()
    with ProcessPoolExecutor(processes) as workers:
        for seed, failure, counted in workers.map(broken, range(first, first + count), chunksize=25):
            counts.update(counted)
            if failure:
                failures[seed] = failure
    return failures, counts


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.world")
    parser.add_argument("--seeds", type=int, default=1000, help="how many worlds")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, help="play this one, with all that happens in it")
    options = parser.parse_args()
    if options.seed is not None:
        logging.disable(logging.CRITICAL)
        play(options.seed, print)
        return 0
    began_s = time.monotonic()
    failures, counts = search(options.first, options.seeds, options.processes)
    for seed, failure in list(failures.items())[:10]:
        print(f"seed {seed}: {failure.strip().splitlines()[-1]}")
    print(f"{options.seeds} worlds, {len(failures)} broken, in {time.monotonic() - began_s:.1f} s:",
          ", ".join(f"{what} {count}" for what, count in sorted(counts.items())))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
