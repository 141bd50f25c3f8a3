"""`./dev fuzz`: look for input that breaks the readers of frames, records, commands and replies.

    ./dev fuzz                        each target for twenty seconds, two at a time
    ./dev fuzz --seconds 600 commands  only those whose name has one of the words
    ./dev fuzz --list

What breaks one is kept in a file that is named at the end; `./dev fuzz --again FILE TARGET` shows it again.
"""

import argparse
import importlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

MODULES = ("tests.property.test_hostile_frames", "tests.property.test_hostile_records")
INPUT_BYTES_MAX = 4096
SET_UP_S = 60.0  # to import and instrument the engine, and for one slow input at the end
SUMMARY = "DONE"


def targets() -> dict[str, Callable[[bytes], Any]]:
    """Each test that draws its input, by name, as a function of bytes."""
    found = {}
    for module in map(importlib.import_module, MODULES):
        for name, test in vars(module).items():
            if name.startswith("test_") and hasattr(test, "hypothesis"):
                found[name.removeprefix("test_")] = test.hypothesis.fuzz_one_input
    return found


def fuzz(name: str, options: list[str]) -> None:
    """Does not return: libFuzzer ends the process."""
    import atheris

    with atheris.instrument_imports(include=["engine"]):
        target = targets()[name]
    atheris.Setup([sys.argv[0], *options], target)
    atheris.Fuzz()


def run(name: str, seconds: int, folder: Path) -> tuple[str, bool, str]:
    """Fuzz in a process of its own; return the name, whether nothing was found, and the words of the process."""
    command = [sys.executable, "-m", "tests.fuzz", "--target", name, f"-max_total_time={seconds}",
               f"-max_len={INPUT_BYTES_MAX}", f"-artifact_prefix={folder}/{name}-"]
    process = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
                             timeout=seconds + SET_UP_S)
    last = next((line for line in reversed(process.stdout.splitlines()) if SUMMARY in line), "")
    return name, process.returncode == 0 and bool(last), last or process.stdout


def main() -> int:
    if len(sys.argv) > 2 and sys.argv[1] == "--target":
        fuzz(sys.argv[2], sys.argv[3:])
    parser = argparse.ArgumentParser(prog="./dev fuzz")
    parser.add_argument("words", nargs="*", help="targets whose names have one of these words; all without")
    parser.add_argument("--seconds", type=int, default=20, help="for each target")
    parser.add_argument("--list", action="store_true", help="name the targets")
    parser.add_argument("--again", type=Path, metavar="FILE", help="give a target what broke it")
    options = parser.parse_args()
    chosen = [name for name in targets() if not options.words or any(word in name for word in options.words)]
    if not chosen:
        parser.error("no target has such a name; see --list")
    if options.list:
        print(*chosen, sep="\n")
        return 0
    if options.again:
        for name in chosen:
            targets()[name](options.again.read_bytes())
        print("it breaks nothing")
        return 0
    folder = Path(tempfile.mkdtemp(prefix="ganger-fuzz-"))
    with ThreadPoolExecutor(2) as workers:
        results = list(workers.map(lambda name: run(name, options.seconds, folder), chosen))
    for name, well, words in results:
        print(f"{'nothing found' if well else 'BROKEN':<14} {name}\n    {words.strip()}")
    broken = [name for name, well, _ in results if not well]
    if broken:
        print(f"{len(results)} targets, {len(broken)} broken; what broke them is in {folder}")
        return 1
    shutil.rmtree(folder)
    print(f"{len(results)} targets, none broken")
    return 0


if __name__ == "__main__":
    sys.exit(main())
