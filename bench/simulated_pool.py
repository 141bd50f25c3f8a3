"""`python -m bench.simulated_pool URL WORKERS`: a pool as `ganger run` starts it, whose workers are simulated.

It runs until its standard input ends. See bench/simulated_workers.py.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import psutil

from bench.simulated_workers import SimulatedHost
from engine.adapters.poller import EpollPoller
from engine.config import Settings
from engine.services.bootstrap import Bootstrap
from engine.services.pool.process import make_loop


@contextlib.contextmanager
def simulated_pool(url: str, workers: int) -> Iterator[psutil.Process]:
    """Run one; give its process when its workers are up."""
    pool = subprocess.Popen([sys.executable, "-m", "bench.simulated_pool", url, str(workers)], stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE)
    assert pool.stdin is not None
    assert pool.stdout is not None
    try:
        if not pool.stdout.readline():
            raise RuntimeError("the pool did not start")
        yield psutil.Process(pool.pid)
    finally:
        pool.stdin.close()
        pool.wait()


def main(url: str, workers: int) -> None:
    poller = EpollPoller()
    ended: list[int] = []

    def told(message: dict[str, Any]) -> None:
        if message.get("is") == "ready":
            print("ready", flush=True)

    settings = Settings(redis_url=url, max_workers=workers)
    loop = make_loop("default", Bootstrap(settings=settings), poller, told, SimulatedHost)
    poller.register(sys.stdin.fileno(), lambda mask: ended.append(os.read(sys.stdin.fileno(), 1) == b""))
    while not ended:
        loop.turn(1.0)
    loop.close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
