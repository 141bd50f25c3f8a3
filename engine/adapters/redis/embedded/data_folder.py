"""The folder of an embedded Redis: whose it is, whether it is safe, and how its files are opened.

1. Its owner may start a server in it. Nobody else can write in it, so nobody else can put a file or a link there.
2. Root may use a server that runs in the folder of another user, but starts none there, and writes nothing.
3. No file is opened through a symbolic link, and only plain files are opened.
"""

import errno
import hashlib
import json
import os
import pwd
import stat
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

from engine.adapters.redis.embedded import folder_files
from engine.errors import EngineError

_REMEDY = "name another one with --data-dir or GANGER_DATA_DIR"
_NOTE_BYTES_MAX = 4096
_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH
SOCKET_PATH_BYTES_MAX = 100  # the kernel's limit is 107; Redis adds a suffix of its own while it binds


class SupervisorNote(NamedTuple):
    """What a supervisor has written of itself; the pid may have passed to another process since."""

    socket: str
    pid: int


class DataFolder(NamedTuple):
    """A folder that this process may use."""

    path: Path
    owner: int  # uid

    @property
    def is_own(self) -> bool:
        """Whether it belongs to the user of this process."""
        return self.owner == os.geteuid()

    def open_lock(self, name: str) -> int:
        """Open one of the lock files; in the folder of another user it must be there already."""
        try:
            return folder_files.open_lock(self.path / name, create=self.is_own)
        except FileNotFoundError:
            if self.is_own:
                raise
            raise self.not_running() from None
        except OSError as error:
            raise unusable(self.path, error) from None

    def open_log(self) -> BinaryIO:
        """Open the log of the server for appending. Raises `EngineError`."""
        try:
            return folder_files.open_log(self.path / folder_files.SERVER_LOG)
        except OSError as error:
            raise unusable(self.path, error) from None

    def note(self) -> SupervisorNote | None:
        """What the supervisor of this folder has written last; None where there is nothing to read."""
        try:
            descriptor = folder_files.open_lock(self.path / folder_files.SUPERVISOR_LOCK, create=False)
        except OSError:
            return None
        try:
            told = json.loads(os.pread(descriptor, _NOTE_BYTES_MAX, 0))
            return SupervisorNote(str(told["socket"]), int(told["pid"]))
        except (ValueError, KeyError, TypeError):
            return None
        finally:
            os.close(descriptor)

    def not_running(self) -> EngineError:
        """The error for root, in a folder of another user in which nothing runs."""
        name = user_name(self.owner)
        return EngineError(f"no Redis runs in the folder {self.path}, which belongs to {name}, and root does not start "
                           f"one there: run this command as that user (sudo -u {name}), or {_REMEDY}")


def open_data_folder(data_dir: Path) -> DataFolder:
    """Make the folder if it is not there, and check it. Raises `EngineError` if it cannot be used or is not safe."""
    path = data_dir.expanduser().absolute()
    try:
        path = path.resolve()
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            found = os.fstat(descriptor)
            folder = DataFolder(path, found.st_uid)
            _check(folder, found)
            if folder.is_own and not os.listdir(descriptor):
                _hide_from_git(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise unusable(path, error) from None
    return folder


def socket_path(folder: Path) -> str:
    """Where the socket of this folder is: in it, or in a private folder if the path would be too long."""
    path = folder / "redis.sock"
    if len(os.fsencode(path)) <= SOCKET_PATH_BYTES_MAX:
        return str(path)
    identity = f"{folder}:{folder.stat().st_ino}".encode()
    name = f"ganger-{os.getuid()}-{hashlib.sha256(identity).hexdigest()[:16]}"
    for parent in (os.environ.get("TMPDIR"), "/tmp"):
        if parent and len(os.fsencode(Path(parent, name, "redis.sock"))) <= SOCKET_PATH_BYTES_MAX:
            return str(_private_folder(Path(parent, name)) / "redis.sock")
    raise EngineError(f"the path {folder} is too long for a socket, and so is that of the temporary folder; {_REMEDY}")


def unusable(path: Path, error: OSError) -> EngineError:
    """The error for a folder that cannot be used, with its reason and a remedy."""
    owner = _owner(path) if isinstance(error, PermissionError) else None
    if owner not in (None, os.geteuid()):
        return _foreign(path, owner)
    is_link = error.errno == errno.ELOOP and error.filename
    why = f"{error.filename} is a symbolic link" if is_link else error.strerror or error
    return EngineError(f"cannot keep data in the folder {path}: {why}; {_REMEDY}")


def _owner(path: Path) -> int | None:
    with suppress(OSError):
        return path.stat().st_uid
    return None


def _foreign(path: Path, owner: int) -> EngineError:
    user = user_name(os.geteuid())
    return EngineError(f"cannot keep data in the folder {path}: it belongs to {user_name(owner)}, and this command "
                       f"runs as {user}; give it to that user (sudo chown -R {user} {path}), or {_REMEDY}")


def user_name(uid: int) -> str:
    """The name of a user, or "#1000" where it has none."""
    with suppress(KeyError):
        return pwd.getpwuid(uid).pw_name
    return f"#{uid}"


def _private_folder(path: Path) -> Path:
    """Make it, or check that nobody else made it first: they could listen in its place."""
    try:
        path.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise EngineError(f"cannot make the folder {path} for the socket: {error.strerror}") from None
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise EngineError(f"{path} belongs to somebody else or is open to others: remove it")
    return path


def _check(folder: DataFolder, found: os.stat_result) -> None:
    if not folder.is_own and os.geteuid() != 0:
        raise _foreign(folder.path, folder.owner)
    if found.st_mode & _OTHERS_MAY_WRITE:
        whose = "" if folder.is_own else f"it belongs to {user_name(folder.owner)}, and "
        raise EngineError(f"cannot keep data in the folder {folder.path}: {whose}other users may write in it; "
                          f"close it with chmod go-w {folder.path}, or {_REMEDY}")


def _hide_from_git(descriptor: int) -> None:
    """Only in a folder that was empty: one that had something else in it may be under version control."""
    with suppress(FileExistsError):
        file = os.open(".gitignore", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644, dir_fd=descriptor)
        os.write(file, b"*\n")
        os.close(file)
