"""`python -m bench.peers.pools POOL`: no-op calls a second through a pool of two processes, as JSON.

The caller has a payload for each call, and the clock runs until it has the last result in its hands. The pool has been
started and has run some calls before. Runs in the peers' environment.
"""

import argparse
import json
import time
from abc import ABC, abstractmethod
from importlib.metadata import version
from typing import Any

from bench.peers.driver import end_with_parent
from bench.peers.peer import PAYLOAD, WORKERS
from bench.peers.pool_work import noop

WARM_UP = 200
CHUNK = 100  # calls in one message, where a pool packs them together


class Pool(ABC):
    """Opened when it is made. `tasks` is what takes it a second or so."""

    label: str
    package: str | None = None  # none: it comes with Python
    settings: str
    tasks: int
    packs = True  # it can send many calls in one message

    @abstractmethod
    def run(self, payloads: list[dict[str, Any]], chunk: int) -> int:
        """Call the no-op with each; return how many results there are."""

    @abstractmethod
    def close(self) -> None: ...


class Executor(Pool):
    label, settings, tasks = "ProcessPoolExecutor", "2 processes, map", 10_000

    def __init__(self) -> None:
        from concurrent.futures import ProcessPoolExecutor

        self.pool: Any = ProcessPoolExecutor(WORKERS)

    def run(self, payloads: list[dict[str, Any]], chunk: int) -> int:
        return len(list(self.pool.map(noop, payloads, chunksize=chunk)))

    def close(self) -> None:
        self.pool.shutdown()


class Multiprocessing(Pool):
    label, settings, tasks = "multiprocessing.Pool", "2 processes, imap", 20_000

    def __init__(self) -> None:
        import multiprocessing

        self.pool = multiprocessing.Pool(WORKERS)

    def run(self, payloads: list[dict[str, Any]], chunk: int) -> int:
        return len(list(self.pool.imap(noop, payloads, chunksize=chunk)))

    def close(self) -> None:
        self.pool.terminate()


class Loky(Executor):
    label, package, settings, tasks = "loky", "loky", "2 processes, map", 10_000

    def __init__(self) -> None:
        from loky import get_reusable_executor

        self.pool = get_reusable_executor(max_workers=WORKERS)

    def close(self) -> None:
        self.pool.shutdown(wait=True, kill_workers=True)


class Dask(Pool):
    label, package, settings = "Dask", "distributed", "LocalCluster of 2 processes with 1 thread, map and gather"
    tasks, packs = 1_000, False

    def __init__(self) -> None:
        from distributed import Client

        self.client = Client(n_workers=WORKERS, threads_per_worker=1, processes=True, dashboard_address=None)

    def run(self, payloads: list[dict[str, Any]], chunk: int) -> int:
        return len(self.client.gather(self.client.map(noop, payloads, pure=False)))

    def close(self) -> None:
        self.client.shutdown()


class Ray(Pool):
    label, package, settings = "Ray", "ray", "2 CPUs, remote and get"
    tasks, packs = 1_000, False

    def __init__(self) -> None:
        import ray

        self.ray = ray
        ray.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        self.noop = ray.remote(noop)

    def run(self, payloads: list[dict[str, Any]], chunk: int) -> int:
        return len(self.ray.get([self.noop.remote(payload) for payload in payloads]))

    def close(self) -> None:
        self.ray.shutdown()


POOLS: dict[str, type[Pool]] = {"process-pool-executor": Executor, "multiprocessing": Multiprocessing, "loky": Loky,
                                "dask": Dask, "ray": Ray}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.peers.pools", description=__doc__)
    parser.add_argument("pool", choices=POOLS)
    parser.add_argument("--scale", type=float, default=1.0, help="of the number of calls")
    options = parser.parse_args()
    end_with_parent()
    kind = POOLS[options.pool]
    pool = kind()
    try:
        figures = _figures(pool, max(100, int(pool.tasks * options.scale)))
    finally:
        pool.close()
    versions = {kind.package: version(kind.package)} if kind.package else {}
    print(json.dumps({"label": kind.label, "settings": kind.settings, "versions": versions, "figures": figures}))
    return 0


def _figures(pool: Pool, count: int) -> dict[str, Any]:
    pool.run([{**PAYLOAD} for _ in range(WARM_UP)], 1)
    figures: dict[str, Any] = {"tasks": count, "results_per_s": _rate(pool, count, 1)}
    if pool.packs:
        figures["packed_per_s"] = _rate(pool, 10 * count, CHUNK)
    return figures


def _rate(pool: Pool, count: int, chunk: int) -> float:
    payloads = [{**PAYLOAD} for _ in range(count)]
    begin_s = time.perf_counter()
    assert pool.run(payloads, chunk) == count
    return round(count / (time.perf_counter() - begin_s), 1)


if __name__ == "__main__":
    raise SystemExit(main())
