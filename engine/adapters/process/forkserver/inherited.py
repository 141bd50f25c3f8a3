"""What the imports left in a process that is about to be forked, and that a fork does not carry over whole.

1. A fork has one thread, the one that forked. Locks and queues that the others serve are in it all the same, so code
   that waits for one of those threads waits for ever.
2. A fork has the descriptors of its parent. A connected socket is one conversation, in which all workers would take
   part, and each might read the answer that another one asked for. So each worker gets an ended one in its place.

Both are counted after each handler module, so that they can be told with the module that brought them.
"""

import os
import re
import socket
import struct
import threading
import time
from bisect import bisect_right
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

# Libraries that do without their threads, as tests/libraries shows.
SURVIVE_A_FORK = ("openblas", "pocketfft", "pyarrow", "duckdb", "onnxruntime", "cv2", "ortools")
_STACK_BYTES = 16_384  # of a thread's stack, in which the library that it belongs to is looked for
_PATIENCE_S, _SPIN_S = 0.2, 0.005
_STREAMS = (socket.SOCK_STREAM, socket.SOCK_SEQPACKET)
_NUMBER = re.compile(r"[-_ ]*\d+$")
_SYSTEM = ("/libc.so", "/libc-", "/libpthread", "/ld-linux", "/libm.so", "/libstdc++", "/libgcc_s", "/libpython")


@dataclass(slots=True)
class Inherited:
    """What was found. `threads` are names with how many there are of each, `sockets` the peers of connections."""

    threads: dict[str, int] = field(default_factory=dict)  # those that a worker is likely to miss
    harmless: dict[str, int] = field(default_factory=dict)  # those whose library is known to do without them
    sockets: list[str] = field(default_factory=list)
    modules: list[str] = field(default_factory=list)  # the handler modules that brought threads or sockets

    def as_dict(self) -> dict[str, Any]:
        """What was found, as JSON values; empty where nothing was."""
        return {name: value for name, value in asdict(self).items() if value}


_connections: set[str] = set()  # those that were found last, as /proc names them


def disconnect() -> None:
    """In a fresh worker: put an ended connection in the place of each one that was found. To use one is an error then,
    or the library connects anew."""
    if not _connections:
        return
    ended, other = socket.socketpair()
    other.close()
    with ended:
        for name in os.listdir("/proc/self/fd"):
            with suppress(OSError):
                if os.readlink(f"/proc/self/fd/{name}") in _connections:
                    os.dup2(ended.fileno(), int(name), inheritable=False)


class ImportAudit:
    """Counts from now on. `look` after each import, `found` when all are done."""

    def __init__(self) -> None:
        self._before = {*_threads(), *_sockets()}
        self._module_of: dict[Any, str] = {}

    def look(self, module: str) -> None:
        """What is new came with `module`."""
        for one in {*_threads(), *_sockets()} - self._before:
            self._module_of.setdefault(one, module)

    def found(self) -> Inherited:
        """What is there now and was not at the beginning."""
        inherited, namer = Inherited(), _Namer()
        for thread in sorted(_threads() - self._before):
            name = namer.name_of(thread)
            kind = inherited.harmless if _survives(name) else inherited.threads
            kind[name] = kind.get(name, 0) + 1
            if kind is inherited.threads:
                self._note_module(inherited, thread)
        _connections.clear()
        for key, peer in _sockets().items():
            if key not in self._before:
                inherited.sockets.append(peer)
                _connections.add(key[1])
                self._note_module(inherited, key)
        return inherited

    def _note_module(self, inherited: Inherited, key: Any) -> None:
        module = self._module_of.get(key)
        if module is not None and module not in inherited.modules:
            inherited.modules.append(module)


def _survives(name: str) -> bool:
    return any(library in name for library in SURVIVE_A_FORK)


# -- threads ------------------------------------------------------------------------------------------------------


def _threads() -> set[int]:
    """The kernel ids of all threads but this one."""
    return {int(name) for name in os.listdir("/proc/self/task")} - {threading.get_native_id()}


class _Namer:
    """Says whose a thread is."""

    def __init__(self) -> None:
        self._pythons = {thread.native_id: thread.name for thread in threading.enumerate()}
        self._regions: list[tuple[int, int, str]] | None = None
        self._patient_until_s = time.monotonic() + _PATIENCE_S

    def name_of(self, tid: int) -> str:
        """Python's name for it, else the library whose code it runs, else what the kernel calls it."""
        if tid in self._pythons:
            return _NUMBER.sub("", self._pythons[tid])
        library = self._library_of(tid)
        if library is not None:
            return library
        name = _comm(tid)
        return _NUMBER.sub("", name) if name and name != _comm(os.getpid()) else "of an unknown library"

    def _library_of(self, tid: int) -> str | None:
        """The first library on a sleeping thread's stack that does not belong to the system."""
        with suppress(OSError, ValueError, IndexError):
            stack_at = self._stack_at(tid)
            with open("/proc/self/mem", "rb", buffering=0) as memory:
                memory.seek(stack_at)
                stack = memory.read(_STACK_BYTES)
            for (word,) in struct.iter_unpack("=Q", stack[: len(stack) & ~7]):
                if (path := self._path_at(word)) is not None:
                    return _library(path)
        return None

    def _stack_at(self, tid: int) -> int:
        """The end of its stack. Threads of OpenMP and BLAS spin for a while before they sleep: wait for that a little.

        Raises `IndexError` for one that does not sleep.
        """
        while True:
            with open(f"/proc/self/task/{tid}/syscall", "rb") as file:
                fields = file.read().split()
            if len(fields) > 1 or time.monotonic() > self._patient_until_s:
                return int(fields[-2], 16)
            time.sleep(_SPIN_S)

    def _path_at(self, address: int) -> str | None:
        if self._regions is None:
            self._regions = _code_regions()
        place = bisect_right(self._regions, address, key=lambda region: region[0]) - 1
        if place >= 0 and address < self._regions[place][1]:
            return self._regions[place][2]
        return None


def _comm(tid: int) -> str:
    with suppress(OSError), open(f"/proc/self/task/{tid}/comm", encoding="utf-8", errors="replace") as file:
        return file.read().strip()
    return ""


def _code_regions() -> list[tuple[int, int, str]]:
    """Where the code of the libraries is, by address."""
    regions = []
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as file:
        for line in file:
            fields = line.split(maxsplit=5)
            if len(fields) == 6 and "x" in fields[1] and ".so" in fields[5] and not _is_system(fields[5]):
                start, _, end = fields[0].partition("-")
                regions.append((int(start, 16), int(end, 16), fields[5].strip()))
    return sorted(regions)


def _is_system(path: str) -> bool:
    return any(name in path for name in _SYSTEM)


def _library(path: str) -> str:
    """What people call it: the package that brought it, with the file where that says more."""
    file = path.rpartition("/")[2].partition(".")[0].partition("-")[0].lstrip("_")
    folder, slash, _ = path.rpartition("-packages/")[2].partition("/")
    if not slash or "-packages/" not in path:
        return file
    package = folder.removesuffix(".libs").lstrip("_")
    return package if package == file.removeprefix("lib") else f"{package} ({file})"


# -- connections --------------------------------------------------------------------------------------------------


def _sockets() -> dict[Any, str]:
    """The connected sockets of this process, by inode, with the address of the other end.

    Pairs of sockets within the process, such as an event loop has, are left out.
    """
    found: dict[Any, str] = {}
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError, ValueError):
            target = os.readlink(f"/proc/self/fd/{name}")
            if target.startswith("socket:") and (peer := _peer(int(name))):
                found["socket", target] = peer
    return found


def _peer(fd: int) -> str:
    with socket.socket(fileno=os.dup(fd)) as copy:
        if copy.type not in _STREAMS or copy.family not in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX):
            return ""
        try:
            peer = copy.getpeername()
        except OSError:  # it listens, or is not connected
            return ""
    if isinstance(peer, tuple):
        return f"[{peer[0]}]:{peer[1]}" if ":" in peer[0] else f"{peer[0]}:{peer[1]}"
    return os.fsdecode(peer).lstrip("\0")
