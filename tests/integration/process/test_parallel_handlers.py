"""Handlers may be parallel inside: joblib, multiprocessing, subprocess and BLAS, in workers that are not daemons."""

from collections.abc import Iterator
from typing import Any

import pytest

from engine.adapters.process.kernel.descendants import descendants
from tests.integration.process.host_kit import Stage, is_alive


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    stage = Stage("tests.integration.process.parallel_handlers", threads=1)
    assert stage.start().failures == {}
    stage.up()
    yield stage
    stage.close()  # which sees that no process is left, of joblib's either


def result(stage: Stage, task_type: str, payload: Any = None) -> Any:
    word, outcome = stage.run(task_type, payload)
    assert word == b"C", outcome
    return outcome["result"]


@pytest.mark.parametrize("backend", ["loky", "threading", "multiprocessing"])
def test_joblib(stage: Stage, backend: str) -> None:
    assert result(stage, "with_joblib", {"backend": backend}) == [50, 60, 70]


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(stage: Stage, method: str) -> None:
    assert result(stage, "with_multiprocessing", {"method": method}) == [0, 1, 4, 9, 16]


def test_subprocesses_have_the_share_too(stage: Stage) -> None:
    assert result(stage, "with_subprocess") == "1"


def test_blas_has_as_many_threads_as_the_slot_has_cores(stage: Stage) -> None:
    assert result(stage, "with_all_jobs") == 1
    told = result(stage, "with_numpy")
    assert told["sum"] == 600.0 ** 3
    assert told["variables"] == {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def test_blas_starts_no_threads_beyond_the_share() -> None:
    stage = Stage("tests.integration.process.parallel_handlers", threads=1)
    stage.start()
    stage.up()
    assert result(stage, "with_numpy")["threads"] == 1
    stage.close()


def test_what_joblib_keeps_for_the_next_run_ends_with_the_worker() -> None:
    stage = Stage("tests.integration.process.parallel_handlers", threads=2)
    stage.start()
    pid = stage.up()
    result(stage, "with_joblib", {"backend": "loky"})
    kept = descendants(pid)
    assert kept
    stage.end()
    assert not any(map(is_alive, kept))
    stage.close()
