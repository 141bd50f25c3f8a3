"""Limits held by cgroup v2, in a group made for the test as if it had been delegated."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.adapters.process.resources import cgroup

ROOT = Path(__file__).parents[3]
PATIENCE_S = 60


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A cgroup v2 of ours, with the controllers that can be had."""
    mount = cgroup.mount()
    if mount is None:
        pytest.skip("no cgroup v2 is mounted here")
    folder = mount / f"ganger-limits-{os.getpid()}"
    try:
        for name in cgroup.controllers(mount):
            (mount / "cgroup.subtree_control").write_text(f"+{name}")
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"no cgroup can be made here: {error}")
    yield folder
    for left in (*folder.iterdir(), folder):
        if left.is_dir():
            left.rmdir()


@pytest.fixture(scope="module")
def seen(folder: Path) -> Any:
    done = subprocess.run([sys.executable, "-m", "tests.integration.process.cgroup_scenario", str(folder)], cwd=ROOT,
                          capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_engine_moves_out_of_the_way(seen: Any, folder: Path) -> None:
    assert seen["taken"] == seen["again"] == str(folder)
    assert seen["own"] == str(folder / cgroup.ENGINE)


def test_each_worker_has_a_group_of_its_own_and_leaves_none_behind(seen: Any) -> None:
    assert len(seen["group_of_worker"]) == 1
    assert seen["left"] == []


def test_cpu_time_and_processes_are_counted_by_the_kernel(seen: Any) -> None:
    assert (seen["cpu"]["cause"], seen["processes"]["cause"]) == ("cpu_time", "processes")
    assert "in burn" in seen["cpu"]["stacks"]


def test_who_has_left_session_and_parent_dies_with_the_group(seen: Any) -> None:
    assert not seen["left_alive"]


def test_a_worker_stands_still_with_its_group_and_can_be_killed_then(seen: Any) -> None:
    assert seen["stands_still"] == [True, True, True]
    assert seen["killed"]["signal"] == "SIGKILL"
    assert "in leave" in seen["killed"]["stacks"]


@pytest.fixture
def with_memory(seen: Any) -> Any:
    if "memory" not in seen["controllers"]:
        pytest.skip("the memory controller is not in cgroup v2 here (version 1 may have it)")
    return seen


def test_a_run_that_grows_over_its_memory_is_ended_with_its_stacks(with_memory: Any) -> None:
    assert with_memory["slow"]["cause"] == "out_of_memory"
    assert "in grow" in with_memory["slow"]["stacks"]


def test_one_that_is_too_fast_meets_the_wall_of_the_kernel(with_memory: Any) -> None:
    assert with_memory["fast"] == {"signal": "SIGKILL", "oom": "its cgroup's counter rose", "sender": "oom_killer"}


def test_what_is_shared_counts_once_and_no_limit_outlives_its_run(with_memory: Any) -> None:
    assert with_memory["shared"] == "CC"
