"""What a no-op task costs in things that can be counted, which no other load on the machine changes much: calls to
Redis, commands in its scripts, bytes, system calls. The times themselves are the benchmark's (`python -m bench`)."""

import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from bench import rig
from tests.guard.recorded import hold
from tests.redis_server import identity

TASKS = 8_000
TRACED_TASKS = 3_000


@pytest.fixture(scope="module")
def bench() -> Iterator[rig.Bench]:
    with rig.bench("unix") as bench:
        yield bench


def test_memory_and_redis_commands(bench: rig.Bench) -> None:
    before_bytes = bench.used_memory()
    bench.fill([rig.NOOP] * TASKS)
    queued_bytes = (bench.used_memory() - before_bytes) / TASKS
    drains = [bench.open(TASKS)]
    for _ in range(2):  # a busy machine makes batches smaller, and never larger: the least of three is what it costs
        bench.fill([rig.NOOP] * TASKS)
        drains.append(bench.open(TASKS))
    hold(f"bytes per queued task, {identity(rig.server_program()).name}", queued_bytes)
    hold("script calls per task", min(drained.per_task("client_commands") for drained in drains))
    hold("Redis commands per task", min(drained.per_task("commands") for drained in drains))


def test_system_calls_of_the_pool(bench: rig.Bench, tmp_path: Path) -> None:
    hold("system calls of the pool per task", _system_calls(bench, bench.meter.tree.pools, tmp_path))


def test_system_calls_of_the_workers(bench: rig.Bench, tmp_path: Path) -> None:
    hold("system calls of a worker per task", _system_calls(bench, bench.meter.tree.workers, tmp_path))


def _system_calls(bench: rig.Bench, processes: list[psutil.Process], folder: Path) -> float:
    """Per task, while strace counts. It slows them down, so that their batches differ from those in peace."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("no strace here")
    bench.fill([rig.NOOP] * TRACED_TASKS)
    table = folder / "calls"
    tracer = subprocess.Popen(
        [strace, "-c", "-o", str(table), *(part for one in processes for part in ("-p", str(one.pid)))],
        stderr=subprocess.PIPE, text=True)
    assert tracer.stderr is not None
    try:
        for _ in processes:
            word = tracer.stderr.readline()
            if "attached" not in word:
                pytest.skip(f"strace may not look here: {word.strip()}")
        bench.open(TRACED_TASKS)
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.communicate(timeout=10)
    total = table.read_text().splitlines()[-1].split()  # 100.00  seconds  µs/call  calls  errors  total
    return int(total[3]) / TRACED_TASKS
