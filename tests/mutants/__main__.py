"""`./dev mutants`: put each bug of the table into a copy of the engine, and see that its tests find it.

    ./dev mutants                 all, two at a time; some minutes
    ./dev mutants rescue recover  only those whose name has one of the words
"""

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

from tests.mutants.table import MUTANTS, Mutant

ROOT = Path(__file__).parents[2]
COPIED = ("engine", "tests", "handlers", "config", "pyproject.toml", "README.md", "setup.py")
LIMIT_S = 240
NO_TESTS_RAN = 5


def copy_of_all(folder: Path) -> Path:
    """The project once more, to be spoilt."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    return folder


def spoilt(mutant: Mutant, text: str) -> str:
    """Raises `ValueError` for a mutant whose line is not there once: the table is out of date."""
    if text.count(mutant.old) != 1:
        raise ValueError(f"{mutant.path} has this {text.count(mutant.old)} times: {mutant.old!r}")
    return text.replace(mutant.old, mutant.new)


def is_caught(mutant: Mutant, folder: Path) -> bool | None:
    """Whether a test fails with the bug in it; None where no test ran at all."""
    path = folder / mutant.path
    whole = path.read_text(encoding="utf-8")
    path.write_text(spoilt(mutant, whole), encoding="utf-8")
    try:
        code = run_tests(mutant.tests, folder)
    finally:
        path.write_text(whole, encoding="utf-8")
    return None if code == NO_TESTS_RAN else code != 0


def run_tests(arguments: str, folder: Path) -> int:
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--timeout", "60",
               *shlex.split(arguments)]
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        return subprocess.run(command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True,
                              check=False, timeout=LIMIT_S).returncode
    except subprocess.TimeoutExpired:
        return 1


def main() -> int:
    parser = argparse.ArgumentParser(prog="./dev mutants", description="See that the tests find one-line bugs.")
    parser.add_argument("words", nargs="*", help="only mutants whose name has one of these")
    words = parser.parse_args().words
    chosen = [one for one in MUTANTS if not words or any(word in one.name for word in words)]
    began_s = time.monotonic()
    folders: SimpleQueue[Path] = SimpleQueue()

    def check(mutant: Mutant) -> bool | None:
        folder = folders.get()
        try:
            return is_caught(mutant, folder)
        finally:
            folders.put(folder)

    with tempfile.TemporaryDirectory(prefix="ganger-mutants-") as place, ThreadPoolExecutor(2) as threads:
        for number in range(2):
            folder = Path(place, str(number))
            folder.mkdir()
            folders.put(copy_of_all(folder))
        files = sorted({word for mutant in chosen for word in mutant.tests.split() if word.startswith("tests/")})
        is_sound = run_tests(" ".join(files), ROOT) == 0
        missed = 0
        for mutant, caught in zip(chosen, threads.map(check, chosen), strict=True):
            word = "caught" if caught else "NO TEST" if caught is None else "LIVES"
            print(f"{word:<8} {mutant.name}   [{mutant.tests}]", flush=True)
            missed += caught is not True
    if not is_sound:
        print(f"without any bug there are failures too: ./dev test {' '.join(files)}")
    print(f"{len(chosen) - missed} of {len(chosen)} caught in {time.monotonic() - began_s:.0f} s")
    return 0 if is_sound and not missed else 1


if __name__ == "__main__":
    sys.exit(main())
