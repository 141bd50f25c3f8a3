"""The supervisor of the embedded Redis server: a detached process that owns one redis-server.

1. There is one for a folder: it holds warden.lock for its life.
2. It starts redis-server as its child, and starts it again when it dies.
3. It ends with the last user: each user holds users.lock shared, so the kernel tells when none is left,
   also after a kill -9. Then it shuts Redis down, which keeps its data, and exits.
4. If the supervisor itself is killed, the kernel sends its redis-server SIGTERM; no Redis is left behind.

    users.lock    shared, by each user for its life; alone, by the supervisor once the last has gone
    start.lock    by a user while it looks for a supervisor and starts one
    warden.lock   by the supervisor for its life; the file says {"pid": …, "socket": …}
    server.lock   by redis-server (inherited) and the supervisor: two servers never write to one folder

It runs as a plain file on a bare interpreter: it must import nothing but the standard library and `folder_files`.
It writes to its standard output `held`, and then `ready` or `failed <why>`; where another one holds the lock, `other`.
"""

import contextlib
import ctypes
import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING or __name__ != "__main__":
    from engine.adapters.redis.embedded import folder_files
else:  # on a bare interpreter, which cannot import the engine
    sys.path.append(os.path.dirname(__file__))
    import folder_files

_LOG_BYTES_MAX = 1_048_576
_SHUTDOWN_S = 30.0
_ORPHAN_S = 3.0  # a kill loses nothing that Redis has confirmed: it is in the page cache
_RESTARTS_MAX, _RESTARTS_PERIOD_S = 5, 30.0
_PR_SET_PDEATHSIG = 1


class ServerSupervisorError(Exception):
    """Redis cannot be run in this folder; the message says why."""


class ServerSupervisor:
    """Keeps one redis-server running in a folder for as long as the folder has users.

    `binary` is the program of the server, `path` that of its socket.
    """

    def __init__(self, folder: Path, binary: str, path: str) -> None:
        self.folder, self.binary, self.socket = folder, binary, path
        self.held = folder_files.open_lock(folder / folder_files.SUPERVISOR_LOCK)
        self.server_lock = folder_files.open_lock(folder / folder_files.SERVER_LOCK)
        self._wakeup, self._wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)  # written to when it is time to end
        self.log_start = 0
        self.deaths: deque[float] = deque(maxlen=_RESTARTS_MAX)

    def run(self) -> int:
        """Run servers until the last user is gone; return the exit code."""
        if not folder_files.try_lock(self.held, fcntl.LOCK_EX):
            report("other")
            return 0
        try:
            self.announce()
            self.claim_folder()
            self.listen_for_the_end()
            self.serve()
        except ServerSupervisorError as error:
            report(f"failed {error}")
            return 1
        finally:
            os.close(self.held)  # before users.lock: a user that waits for that one then starts the next supervisor
        return 0

    def announce(self) -> None:
        """Write into the lock file which process holds it, and where its server listens."""
        os.ftruncate(self.held, 0)
        os.pwrite(self.held, json.dumps({"pid": os.getpid(), "socket": self.socket}).encode(), 0)
        report("held")

    def claim_folder(self) -> None:
        """Wait for a server that an earlier supervisor left behind; the kernel has told it to end."""
        for patience_s in (_ORPHAN_S, _ORPHAN_S / 2):
            until = time.monotonic() + patience_s
            while time.monotonic() < until:
                if folder_files.try_lock(self.server_lock, fcntl.LOCK_EX):
                    return
                time.sleep(0.01)
            for pid in folder_files.holders(self.folder / folder_files.SERVER_LOCK):
                os.kill(pid, signal.SIGKILL)
        raise ServerSupervisorError(f"another redis-server is still using the folder {self.folder}")

    def listen_for_the_end(self) -> None:
        """From now on, wake `watch` when a signal asks for the end, or the last user is gone."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: os.write(self._wake, b"s"))
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        threading.Thread(target=self._await_last_user, daemon=True).start()

    def _await_last_user(self) -> None:
        users = folder_files.open_lock(self.folder / folder_files.USERS_LOCK)
        fcntl.flock(users, fcntl.LOCK_EX)  # held until this process exits: no new user meets a Redis that is going
        os.write(self._wake, b"u")

    def serve(self) -> None:
        """Run servers, one after the other, until it is time to end."""
        ready = False
        while True:
            server = self.start_server()
            with open(os.pidfd_open(server.pid), closefd=True, mode="rb") as watched:
                ready_now, ended = self.watch(server, watched.fileno(), reported=ready)
                if ended:
                    return
            server.wait()
            ready = ready or ready_now
            self.note_death(server.returncode, ready)

    def watch(self, server: "subprocess.Popen[bytes]", pidfd: int, *, reported: bool) -> tuple[bool, bool]:
        """Wait until the server dies or it is time to end; return (it was ready, it is time to end)."""
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        poll.register(self._wakeup, select.POLLIN)
        ready = False
        while True:
            events = {descriptor for descriptor, _ in poll.poll(None if ready else 5)}
            if self._wakeup in events:
                stop(server, poll, pidfd)
                self.remove_socket_folder()
                return ready, True
            if pidfd in events:
                return ready, False
            if not ready and folder_files.ping(self.socket) == "ready":
                ready = True
                if not reported:
                    report("ready", last=True)

    def start_server(self) -> "subprocess.Popen[bytes]":
        """Start a server, with its output in the log of the folder."""
        log = self.folder / folder_files.SERVER_LOG
        if log.exists() and log.lstat().st_size > _LOG_BYTES_MAX:
            log.replace(log.with_suffix(".log.1"))
        with folder_files.open_log(log) as output:
            self.log_start = output.seek(0, os.SEEK_END)
            return subprocess.Popen(  # preexec_fn is safe here: no other thread runs Python code
                [self.binary, *arguments(self.folder, self.socket)], cwd=self.folder, stdin=subprocess.DEVNULL,
                stdout=output, stderr=output, pass_fds=[self.server_lock], preexec_fn=_end_with(os.getpid()))

    def note_death(self, code: int, was_ready: bool) -> None:
        """Raise `ServerSupervisorError` when the server dies at once or too often; it has what the server said last."""
        now = time.monotonic()
        self.deaths.append(now)
        often = len(self.deaths) == _RESTARTS_MAX and now - self.deaths[0] < _RESTARTS_PERIOD_S
        if not was_ready or often:
            raise ServerSupervisorError(f"{self.binary} ended with {code} in {self.folder}: {self.last_words()}")

    def last_words(self) -> str:
        """The last lines that the server has written since its start."""
        with (self.folder / folder_files.SERVER_LOG).open("rb") as log:
            log.seek(self.log_start)
            lines = [line.strip() for line in log.read()[-2000:].decode(errors="replace").splitlines() if line.strip()]
        return " | ".join(lines[-3:]) or "it said nothing"

    def remove_socket_folder(self) -> None:
        """Remove the private folder of the socket, where it has one: see `data_folder.socket_path`."""
        path = Path(self.socket)
        if path.parent != self.folder:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
                path.parent.rmdir()


def arguments(folder: Path, path: str) -> list[str]:
    """Those of the server: no TCP port, every write in the append-only file within a second, nothing evicted ever."""
    options = {"port": "0", "unixsocket": path, "unixsocketperm": "700", "dir": str(folder), "daemonize": "no",
               "appendonly": "yes", "appendfsync": "everysec", "aof-load-truncated": "yes", "save": "",
               "maxmemory-policy": "noeviction"}
    return [word for name, value in options.items() for word in (f"--{name}", value)]


def stop(server: "subprocess.Popen[bytes]", poll: "select.poll", pidfd: int) -> None:
    """Ask it to end, again each second: it refuses while it writes its first append-only file."""
    until = time.monotonic() + _SHUTDOWN_S
    while time.monotonic() < until:
        server.terminate()
        pause_until = time.monotonic() + 1.0
        while time.monotonic() < pause_until:
            if any(descriptor == pidfd for descriptor, _ in poll.poll(20)):
                server.wait()
                return
    server.kill()
    server.wait()


def _end_with(supervisor: int) -> Callable[[], None]:
    """What the child does before it becomes redis-server: ask the kernel for SIGTERM when its parent dies."""
    libc = ctypes.CDLL(None, use_errno=True)

    def prepare() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != supervisor:  # it died between fork and here
            os._exit(1)

    return prepare


def report(line: str, *, last: bool = False) -> None:
    """Write a line to the process that started this supervisor, which may be gone."""
    try:
        os.write(1, line.replace("\n", " ").encode() + b"\n")
        if last:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    except BrokenPipeError:
        pass


def main(folder: str, binary: str, path: str) -> int:
    """Detach from the process that started this one, and supervise; return the exit code."""
    if os.fork():  # the process that started it waits for this half only, and keeps no child
        os._exit(0)
    os.setsid()
    os.umask(0o077)
    os.chdir("/")
    try:
        return ServerSupervisor(Path(folder), binary, path).run()
    except OSError as error:  # a file of the folder that cannot be opened, a process that cannot be started
        report(f"failed {error}")
        return 1


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    os._exit(main(*sys.argv[1:4]))
