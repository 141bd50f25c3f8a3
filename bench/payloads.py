"""Payloads and results of 1 MiB: how many MB/s through a worker's pipe, through the whole engine, and what small
tasks beside them notice.

The pipe alone is a host with two workers and no Redis: both get tasks that give their payload back.
"""

import threading
import time
from typing import Any

import orjson

from bench import rig
from bench.percentiles import percentiles
from engine.adapters.poller import EpollPoller
from engine.adapters.process.pool.host import ProcessHost
from engine.client import Client
from engine.core.worker import frames
from engine.ports.host import Booted, HostSettings, Replied, ServerReady

LARGE = {"data": "x" * (1_048_576 - 11)}  # 1 MiB as JSON
LARGE_BYTES = len(orjson.dumps(LARGE))
WORKERS = 2
RESULT_BYTES_MAX = 2 * LARGE_BYTES
PAUSE_S = 0.005


def measure(tasks: int = 200, transport: str = "tcp") -> dict[str, Any]:
    """Both directions count: a task that gives back 1 MiB has moved 2 MiB. MB are 10^6 bytes."""
    pipe_mb_per_s = _through_the_pipe(tasks)
    settings = {"result_bytes_max": RESULT_BYTES_MAX, "payload_bytes_max": RESULT_BYTES_MAX}
    with rig.bench(transport, **settings) as bench:
        alone = _small_starts(bench.client, tasks)
        drained = bench.drain([{"task_type": "echo", "payload": LARGE}] * tasks)
        beside = _small_beside(bench, tasks)
    return {"tasks": tasks, "transport": transport, "payload_bytes": LARGE_BYTES,
            "pipe_mb_per_s": round(pipe_mb_per_s),
            "engine_mb_per_s": round(drained.tasks_per_s * 2 * LARGE_BYTES / 1e6),
            **percentiles("small_alone_start_ms", alone), **percentiles("small_beside_start_ms", beside)}


def _small_starts(client: Client, count: int) -> list[float]:
    """Milliseconds from submit to start of small tasks, one after the other."""
    starts = []
    for _ in range(count):
        time.sleep(PAUSE_S)
        submitted_ns = time.monotonic_ns()
        starts.append((client.result(client.submit("moment", {}), wait=20) - submitted_ns) / 1e6)
    return starts


def _small_beside(bench: rig.Bench, count: int) -> list[float]:
    """The same while another client has one large task after the other run: a worker stays free."""
    ended = threading.Event()

    def keep_busy() -> None:
        with Client(bench.url, payload_bytes_max=RESULT_BYTES_MAX) as client:
            while not ended.is_set():
                client.wait([client.submit("echo", LARGE)], timeout=20)

    thread = threading.Thread(target=keep_busy)
    thread.start()
    try:
        return _small_starts(bench.client, count)
    finally:
        ended.set()
        thread.join()


def _through_the_pipe(tasks: int) -> float:
    poller = EpollPoller()
    host = ProcessHost(HostSettings("bench", modules=("bench.handlers",), result_bytes_max=RESULT_BYTES_MAX,
                                    payload_bytes_max=RESULT_BYTES_MAX), poller)
    host.start()
    try:
        _await(host, poller, ServerReady, 1)
        for slot in range(WORKERS):
            host.spawn(slot)
        _await(host, poller, Booted, WORKERS)
        return _exchange(host, poller, tasks)
    finally:
        host.stop()
        poller.close()


def _exchange(host: ProcessHost, poller: EpollPoller, tasks: int) -> float:
    record = orjson.dumps(["echo", "bench", 1, 1]) + b"\n" + orjson.dumps(LARGE)
    sent = 0

    def send(slot: int) -> None:
        nonlocal sent
        sent += 1
        host.send(slot, frames.task(sent, 1, 0, 0.0, b"0123456789ABCDEFGHJ", record))

    begin_s = time.perf_counter()
    for slot in range(WORKERS):
        send(slot)
    done = 0
    while done < tasks:
        for event in _await(host, poller, Replied, 1):
            assert event.verdict == frames.COMPLETED, event.outcome[:200]
            done += 1
            if sent < tasks:
                send(event.slot)
    return tasks * 2 * LARGE_BYTES / 1e6 / (time.perf_counter() - begin_s)


def _await(host: ProcessHost, poller: EpollPoller, kind: type[Any], count: int) -> list[Any]:
    """The events of that kind, when there are as many."""
    found: list[Any] = []
    end_s = time.monotonic() + 20
    while len(found) < count:
        if time.monotonic() > end_s:
            raise TimeoutError(f"{len(found)} of {count} {kind.__name__}")
        deadline_s = host.next_deadline_s()
        poller.wait(1.0 if deadline_s is None else min(1.0, max(0.0, deadline_s - time.monotonic())))
        host.tick(time.monotonic())
        found += [event for event in host.events() if isinstance(event, kind)]
    return found
