"""`python -m bench.peers.driver PEER`: measure one peer once, and print its figures as JSON. In the peers' environment.

Each phase begins with an empty Redis:
1. submit one by one, with no worker there, as for the engine;
2. fill the queue, start the workers, and take the time between the first tenth and the last task;
3. with idle workers, one task after the other: submit to start, and to the result.
"""

import argparse
import contextlib
import ctypes
import importlib
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import redis

from bench.peers.peer import PHASE_VARIABLE, REDIS_URL, Latency, Peer

PEERS = {
    "celery": ("celery_peer", "Celery"), "dramatiq": ("dramatiq_peer", "Dramatiq"), "huey": ("huey_peer", "Huey"),
    "rq": ("rq_peer", "Rq"), "taskiq": ("taskiq_peer", "Taskiq"), "saq": ("saq_peer", "Saq"),
    "bullmq": ("bullmq_peer", "Bullmq"), "bullmq-in-process": ("bullmq_peer", "BullmqInProcess"),
}
SINGLES = 1_000
PR_SET_PDEATHSIG = 1  # linux/prctl.h
SAMPLES, WARM_UP = 200, 20
STALLED_S = 20.0
POLL_S = 0.005
SLACK = 8  # tasks: keys that a peer keeps beside the results which are counted


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.peers.driver", description=__doc__)
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("--phase", choices=("submit", "throughput", "latency"), required=True)
    parser.add_argument("--scale", type=float, default=1.0, help="of the number of tasks")
    options = parser.parse_args()
    end_with_parent()
    module, name = PEERS[options.peer]
    peer: Peer = getattr(importlib.import_module(f"bench.peers.{module}"), name)()
    connection = redis.Redis.from_url(REDIS_URL)
    connection.flushall()
    figures = {"submit": _submit, "throughput": _throughput, "latency": _latency}[options.phase](
        peer, connection, options.scale)
    told = {"label": peer.label, "is_isolated": peer.is_isolated, "settings": peer.settings,
            "versions": peer.versions()}
    print(json.dumps({**told, "figures": figures}))
    return 0


def _submit(peer: Peer, connection: redis.Redis, scale: float) -> dict[str, Any]:
    count = max(50, int(SINGLES * scale))
    peer.submit(20)
    return {"submit_per_s": round(count / peer.submit(count))}


def _throughput(peer: Peer, connection: redis.Redis, scale: float) -> dict[str, Any]:
    total = max(200, int(peer.tasks * scale))
    before_bytes = _info(connection, "memory")["used_memory"]
    fill_s = peer.fill(total)
    queued_bytes = (_info(connection, "memory")["used_memory"] - before_bytes) / total
    with workers(peer) as check:
        first = total - _await(peer, connection, total, total * 9 // 10, check)
        begin_s, cpu_s = time.perf_counter(), _cpu_s(connection)
        done = total - _await(peer, connection, total, SLACK, check)
        wall_s, redis_s = time.perf_counter() - begin_s, _cpu_s(connection) - cpu_s
    return {"tasks": total, "tasks_per_s": round((done - first) / wall_s, 1),
            "submit_many_per_s": round(total / fill_s),
            "redis_us_per_task": round(redis_s / (done - first) * 1e6, 1), "queued_bytes_per_task": round(queued_bytes)}


def _latency(peer: Peer, connection: redis.Redis, scale: float) -> dict[str, Any]:
    count = max(30, int(SAMPLES * scale))
    with workers(peer):
        peer.latencies(WARM_UP)
        found: list[Latency] = peer.latencies(count)
    figures: dict[str, Any] = {"samples": count}
    for at, what in enumerate(("start_ms", "result_ms")):
        cuts = statistics.quantiles([one[at] for one in found], n=100)
        figures |= {f"{what}_p50": round(cuts[49], 3), f"{what}_p99": round(cuts[98], 3)}
    return figures


class Startable(Protocol):
    """A peer, as far as its workers are concerned."""

    label: str

    def commands(self) -> list[list[str]]: ...


def end_with_parent() -> None:
    """When who started us ends, or asks us to: leave in order, so that no worker stays behind."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


@contextlib.contextmanager
def workers(peer: Startable) -> Iterator[Callable[[], None]]:
    """Start them in a session each, and end all of it: some leave children behind. Gives a check that they live."""
    environment = {**os.environ, **getattr(peer, "environment", dict)()}
    processes = [subprocess.Popen(command, env=environment, start_new_session=True, stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL) for command in peer.commands()]

    def check() -> None:
        ended = [process.returncode for process in processes if process.poll() is not None]
        if ended:
            raise RuntimeError(f"{peer.label}: workers have ended with {ended}")

    try:
        yield check
    finally:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _await(peer: Peer, connection: redis.Redis, total: int, goal: int, check: Callable[[], None]) -> int:
    """Wait until no more than `goal` are pending; return how many are. Raises TimeoutError if nothing goes on."""
    seen, moved_s = total + 1, time.monotonic()
    while (pending := peer.pending(connection, total)) > goal:
        if pending != seen:
            seen, moved_s = pending, time.monotonic()
        elif time.monotonic() - moved_s > STALLED_S:
            raise TimeoutError(f"{peer.label}: {pending} of {total} tasks pending, and nothing for {STALLED_S:g} s")
        check()
        time.sleep(POLL_S)
    return max(0, pending)


def _info(connection: redis.Redis, section: str) -> dict[str, Any]:
    told: dict[str, Any] = connection.info(section)  # type: ignore[assignment]
    return told


def _cpu_s(connection: redis.Redis) -> float:
    cpu = _info(connection, "cpu")
    return float(cpu["used_cpu_user"] + cpu["used_cpu_sys"])


if __name__ == "__main__":
    assert PHASE_VARIABLE in os.environ or "--help" in sys.argv or "-h" in sys.argv, f"set {PHASE_VARIABLE}"
    sys.exit(main())
