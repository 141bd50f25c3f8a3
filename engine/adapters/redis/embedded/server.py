"""The embedded Redis: one server for a folder, shared by every process that names the folder.

`open_embedded` makes the caller a user of the folder and returns once Redis answers. The first user starts it, the last
one ends it: `server_supervisor` describes the locks. A user also watches the supervisor of the server. If that is
killed, the users start a new one. Nothing here speaks more of Redis's protocol than PING.
"""

import fcntl
import logging
import os
import select
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

from engine.adapters.redis.embedded import folder_files
from engine.adapters.redis.embedded.data_folder import DataFolder, SupervisorNote, open_data_folder, user_name
from engine.adapters.redis.embedded.launch import SupervisorLaunch, relaunch
from engine.errors import EngineError

_SILENT_S = 15.0  # from the start of the server to its first word
_LOADING_S = 300.0  # for reading its data
_POLL_S = 0.01
_RETRY_S, _RETRY_S_MAX = 1.0, 30.0

_errors = logging.getLogger("ganger.errors")


class EmbeddedRedis:
    """One use of the embedded Redis of a folder, from `open_embedded` to `close`.

    `url` is what redis-py connects to. A process that is passed `fileno()` (`pass_fds`) is a user too, until it ends.
    """

    def __init__(self, folder: DataFolder, binary: str | None = None) -> None:
        self.folder, self.binary = folder, binary
        self.url = ""
        self._closed = False
        self._alarm = os.eventfd(0, os.EFD_CLOEXEC)
        self._lock = folder.open_lock(folder_files.USERS_LOCK)
        try:
            self._enter()
            watched = self._ensure()
        except BaseException:
            os.close(self._lock)
            os.close(self._alarm)
            raise
        self._watcher = threading.Thread(target=self._watch, args=[watched], name="ganger-embedded", daemon=True)
        self._watcher.start()

    def fileno(self) -> int:
        """The descriptor that makes its holders users of the folder."""
        return self._lock

    def close(self) -> None:
        """Stop being a user. The last one to do so ends Redis, which keeps its data."""
        if self._closed:
            return
        self._closed = True
        os.eventfd_write(self._alarm, 1)
        self._watcher.join()
        os.close(self._alarm)
        os.close(self._lock)

    def __enter__(self) -> "EmbeddedRedis":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    def _enter(self) -> None:
        """Become a user. For the owner this waits only while a Redis without users is being shut down."""
        if self.folder.is_own:
            fcntl.flock(self._lock, fcntl.LOCK_SH)
        elif not folder_files.try_lock(self._lock, fcntl.LOCK_SH):
            raise self.folder.not_running()

    def _ensure(self) -> int | None:
        """Return when Redis answers, starting it if need be, with a descriptor that tells of its supervisor's death."""
        started, launches = time.monotonic(), 0
        launch: SupervisorLaunch | None = None
        try:
            while not self._closed:
                if self.folder.is_own:
                    with self._starting():
                        if not _has_supervisor(self.folder):
                            launches += 1
                            launch = relaunch(self.folder, self.binary, launch, launches)
                note = self.folder.note()
                state = "silent" if note is None else _state(self.folder, note.socket)
                if note is not None and state == "ready":
                    self.url = f"unix://{quote(note.socket)}?db=0"
                    return _watch_supervisor(self.folder, note)
                _check_patience(self.folder, state, time.monotonic() - started)
                if launch is not None:
                    launch.wait(_POLL_S)
                else:
                    time.sleep(_POLL_S)
            return None
        finally:
            if launch is not None:
                launch.close()

    @contextmanager
    def _starting(self) -> Iterator[None]:
        """One user at a time looks for a supervisor and starts one."""
        descriptor = self.folder.open_lock(folder_files.START_LOCK)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _watch(self, watched: int | None) -> None:
        """Start Redis again whenever its supervisor dies under us (the supervisor itself looks after Redis)."""
        pause_s = _RETRY_S
        while True:
            poll = select.poll()
            poll.register(self._alarm, select.POLLIN)
            if watched is not None:
                poll.register(watched, select.POLLIN)
            events = {descriptor for descriptor, _ in poll.poll(None if watched is not None else pause_s * 1000)}
            if watched is not None:
                os.close(watched)
            if self._alarm in events:
                return
            try:
                watched, pause_s = self._ensure(), _RETRY_S
            except EngineError as error:
                _errors.error("the embedded Redis of %s cannot be reached again: %s", self.folder.path, error)
                watched, pause_s = None, min(pause_s * 2, _RETRY_S_MAX)


def open_embedded(data_dir: Path, binary: str | None = None) -> EmbeddedRedis:
    """Become a user of the folder's Redis, starting it if it does not run.

    `binary` is the server program to start, a path or a name on PATH; None for the one that comes with Ganger.
    Raises `EngineError` when the folder cannot be used, no server program can be run, or it does not start.
    """
    return EmbeddedRedis(open_data_folder(data_dir), binary)


def await_end(data_dir: Path) -> None:
    """Block until the folder's Redis has ended. With a user that stays, that is for ever."""
    with suppress(FileNotFoundError):
        path = data_dir.expanduser().resolve() / folder_files.SUPERVISOR_LOCK
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        finally:
            os.close(descriptor)


def _has_supervisor(folder: DataFolder) -> bool:
    """Whether a supervisor lives and holds its lock. Call it under start.lock: it takes the lock for a moment."""
    descriptor = folder.open_lock(folder_files.SUPERVISOR_LOCK)
    try:
        return not folder_files.try_lock(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def _watch_supervisor(folder: DataFolder, note: SupervisorNote) -> int | None:
    """A descriptor that is readable once the supervisor is dead.

    The number in its note may have passed to another process, so the lock is looked at again after opening it.
    """
    try:
        watched = os.pidfd_open(note.pid)
    except OSError:  # dead, or in another container that shares the folder
        return None
    if not folder.is_own or _has_supervisor(folder):
        return watched
    os.close(watched)
    return None


def _state(folder: DataFolder, path: str) -> str:
    """As `folder_files.ping`. In the folder of another user, only a socket of that user's is spoken to."""
    if not folder.is_own and not _belongs_to(folder.owner, Path(path)):
        return "silent"
    return folder_files.ping(path)


def _belongs_to(uid: int, path: Path) -> bool:
    try:
        found = path.lstat()
    except OSError:
        return False
    return stat.S_ISSOCK(found.st_mode) and found.st_uid == uid


def _check_patience(folder: DataFolder, state: str, waited_s: float) -> None:
    if state == "denied":
        raise EngineError(f"the embedded Redis of {folder.path} was started by another user, and does not let "
                          f"{user_name(os.geteuid())} in; stop what that user runs there")
    if state == "silent" and not folder.is_own:
        raise folder.not_running()
    if waited_s > (_LOADING_S if state == "loading" else _SILENT_S):
        doing = "still loads its data" if state == "loading" else "does not answer"
        raise EngineError(f"the embedded Redis of {folder.path} {doing} after {waited_s:.0f} s; "
                          f"see {folder.path / folder_files.SERVER_LOG}")
