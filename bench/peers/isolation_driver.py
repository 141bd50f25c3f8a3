"""`python -m bench.peers.isolation_driver PEER`: measure one peer's isolation once, and print its figures as JSON.

In the peers' environment, with one worker.
"""

import argparse
import ctypes
import importlib
import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.isolation_scenarios import Figures, Scenarios
from bench.peers.driver import end_with_parent, workers

PR_SET_CHILD_SUBREAPER = 36
PEERS = {
    "celery": ("isolation_celery", "Celery"), "rq": ("isolation_rq", "Rq"), "pebble": ("isolation_pebble", "Pebble")}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.peers.isolation_driver", description=__doc__)
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--limit-s", type=float, default=1.0, help="of each task that hangs")
    options = parser.parse_args()
    end_with_parent()
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)  # what a worker leaves behind comes to us
    module, name = PEERS[options.peer]
    make: Callable[[], Any] = getattr(importlib.import_module(f"bench.peers.{module}"), name)
    figures: Figures = {}
    for scenario in _scenarios(make.has_priorities, options.runs):  # type: ignore[attr-defined]
        with tempfile.TemporaryDirectory(prefix="ganger-bench-") as folder, _running(make) as peer:
            figures |= scenario(Scenarios(peer, Path(folder), options.limit_s))
    told = {"label": make.label, "versions": {one: version(one) for one in make.packages}}  # type: ignore[attr-defined]
    print(json.dumps({**told, "figures": figures}))
    return 0


def _scenarios(has_priorities: bool, runs: int) -> list[Callable[[Scenarios], Figures]]:
    """Each on a worker of its own: a peer may not survive one."""
    scenarios: list[Callable[[Scenarios], Figures]] = [
        lambda scenarios: scenarios.hang("loop", runs), lambda scenarios: scenarios.hang("deaf", runs),
        lambda scenarios: scenarios.hang("in_c", runs), Scenarios.orphans, lambda scenarios: scenarios.storm(2 * runs)]
    return [*scenarios, lambda scenarios: scenarios.urgent(max(3, runs // 2))] if has_priorities else scenarios


@contextmanager
def _running(make: Callable[[], Any]) -> Iterator[Any]:
    """A peer with its worker; whatever it leaves behind is ended."""
    peer = make()
    try:
        with workers(peer):
            yield peer
    finally:
        peer.close()
        _end_children()


def _end_children() -> None:
    """And those that come to us when these have ended."""
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    while pids := children.read_text().split():
        for pid in map(int, pids):
            os.kill(pid, signal.SIGKILL)
            with suppress(ChildProcessError):  # somebody has waited for it already
                os.waitpid(pid, 0)


if __name__ == "__main__":
    sys.exit(main())
