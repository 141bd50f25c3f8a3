"""How many instructions the pool's own code executes for a task: counted by callgrind, and the same in each run."""

import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.guard.recorded import hold

ROOT = Path(__file__).parents[2]
FEW, MANY = 1_000, 3_000


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="no valgrind here (apt-get install valgrind)")
@pytest.mark.skipif("CI" not in os.environ, reason="takes 20 s, so it is left to CI; CI=1 has it run here")
@pytest.mark.timeout(300)  # valgrind on a busy machine
def test_instructions_of_the_pool() -> None:
    with ThreadPoolExecutor(2) as threads:
        few, many = threads.map(_instructions, (FEW, MANY))
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    hold(f"instructions of the pool's code per task, Python {version}", (many - few) / (MANY - FEW))


def _instructions(tasks: int) -> int:
    done = subprocess.run(
        ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", sys.executable, "-m",
         "tests.guard.hot_path", str(tasks)], cwd=ROOT, env=os.environ | {"PYTHONHASHSEED": "0"}, capture_output=True,
        text=True, check=True, timeout=300)
    found = re.search(r"Collected : (\d+)", done.stderr)
    assert found, done.stderr[-500:]
    return int(found.group(1))
