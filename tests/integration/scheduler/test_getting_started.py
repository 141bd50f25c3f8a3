"""docs/getting-started.md, run as a reader would."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "getting-started.md").read_text(encoding="utf-8")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "GANGER_MAX_WORKERS": "1"}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with all files of the page."""
    for name, text in re.findall(r"```python\n# (\S+\.py)\n(.*?)```", PAGE, re.DOTALL):
        (tmp_path / name).write_text(text)
    return tmp_path


def run(project: Path, *command: str) -> str:
    done = subprocess.run([sys.executable, *command], cwd=project, env=ENVIRONMENT, capture_output=True, text=True,
                          timeout=55, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def workers(project: Path) -> Iterator[None]:
    """`ganger run --handlers tasks`, as the page says; up or not, tasks wait for it."""
    process = subprocess.Popen([sys.executable, "-m", "engine", "run", "--handlers", "tasks"], cwd=project,
                               env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    yield
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == 0


def test_the_script(project: Path) -> None:
    assert run(project, "script.py") == "Processed: test\n"


@pytest.mark.usefixtures("workers")
def test_the_project(project: Path) -> None:
    assert run(project, "order.py").splitlines() == [
        "{'title': 'Emma', 'sheets': 50}", "COMPLETED 1 printing for the shop", "['bound Emma']", "too thick to bind",
        "payload.pages", "['Volume 0', 'Volume 1', 'Volume 2']", *["COMPLETED 50"] * 3]


def test_the_tests(project: Path) -> None:
    assert "3 passed" in run(project, "-m", "pytest", "-q", "-p", "no:cacheprovider",
                             f"--basetemp={project / 'temp'}", "test_tasks.py")
