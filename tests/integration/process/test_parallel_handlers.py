"""Handlers may be parallel inside: joblib, multiprocessing, subprocess and BLAS, in workers that are not daemons."""

from collections.abc import Iterator
from typing import Any

import pytest

from engine.adapters.kernel.descendants import descendants
from tests.integration.process.host_harness import HostHarness, is_alive


@pytest.fixture(scope="module")
def harness() -> Iterator[HostHarness]:
    harness = HostHarness("tests.integration.process.parallel_handlers", threads=1)
    assert harness.start().failures == {}
    harness.up()
    yield harness
    harness.close()  # which sees that no process is left, of joblib's either


def result(harness: HostHarness, task_type: str, payload: Any = None) -> Any:
    word, outcome = harness.run(task_type, payload)
    assert word == b"C", outcome
    return outcome["result"]


@pytest.mark.parametrize("backend", ["loky", "threading", "multiprocessing"])
def test_joblib(harness: HostHarness, backend: str) -> None:
    assert result(harness, "with_joblib", {"backend": backend}) == [50, 60, 70]


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(harness: HostHarness, method: str) -> None:
    assert result(harness, "with_multiprocessing", {"method": method}) == [0, 1, 4, 9, 16]


def test_subprocesses_have_the_share_too(harness: HostHarness) -> None:
    assert result(harness, "with_subprocess") == "1"


def test_blas_has_as_many_threads_as_the_slot_has_cores(harness: HostHarness) -> None:
    assert result(harness, "with_all_jobs") == 1
    told = result(harness, "with_numpy")
    assert told["sum"] == 600.0 ** 3
    assert told["variables"] == {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def test_blas_starts_no_threads_beyond_the_share() -> None:
    harness = HostHarness("tests.integration.process.parallel_handlers", threads=1)
    harness.start()
    harness.up()
    assert result(harness, "with_numpy")["threads"] == 1
    harness.close()


def test_what_joblib_keeps_for_the_next_run_ends_with_the_worker() -> None:
    harness = HostHarness("tests.integration.process.parallel_handlers", threads=2)
    harness.start()
    pid = harness.up()
    result(harness, "with_joblib", {"backend": "loky"})
    kept = descendants(pid)
    assert kept
    harness.end()
    assert not any(map(is_alive, kept))
    harness.close()
