"""The files in the folder of an embedded Redis, its locks, and its socket: for its users and its supervisor.

It must import nothing but the standard library: see `server_supervisor`, which also says who holds which lock.
"""

import errno
import fcntl
import os
import socket
import stat
from pathlib import Path
from typing import BinaryIO

USERS_LOCK, START_LOCK, SERVER_LOCK = "users.lock", "start.lock", "server.lock"
SUPERVISOR_LOCK = "warden.lock"  # an earlier version gave it this name, and may use the same folder
SERVER_LOG = "redis.log"

_PING_S = 1.0
_SAFELY = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def open_lock(path: Path, *, create: bool = True) -> int:
    """Open a lock file of this folder, for writing only where it may be created. Never through a link."""
    how = os.O_RDWR | os.O_CREAT if create else os.O_RDONLY
    return _checked(path, os.open(path, how | _SAFELY, 0o600))


def open_log(path: Path) -> BinaryIO:
    """Open a log file of this folder for appending. Never through a link."""
    descriptor = _checked(path, os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | _SAFELY, 0o600))
    return os.fdopen(descriptor, "ab")


def _checked(path: Path, descriptor: int) -> int:
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, f"{path} is not a plain file")


def try_lock(descriptor: int, kind: int) -> bool:
    """Take the lock if that is possible at once."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def ping(path: str) -> str:
    """How the server behind the socket is: `ready`, `loading` its data, `silent`, or `denied` to this user."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(_PING_S)
        try:
            client.connect(path)
            client.sendall(b"PING\r\n")
            answer = client.recv(64)
        except PermissionError:
            return "denied"
        except OSError:
            return "silent"
    if answer.startswith(b"-LOADING"):
        return "loading"
    return "ready" if answer[:1] in (b"+", b"-") else "silent"


def holders(path: Path) -> list[int]:
    """The other processes that have the file open."""
    found = []
    wanted = str(path)
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if any(os.readlink(link.path) == wanted for link in os.scandir(entry / "fd")):
                found.append(int(entry.name))
        except OSError:  # it has ended, or is somebody else's
            continue
    return found
