"""Starts the supervisor of an embedded Redis, and reads what it reports."""

import os
import select
import subprocess
import sys
import time

from engine.adapters.redis.embedded import folder_files, server_supervisor
from engine.adapters.redis.embedded.binary import find_server
from engine.adapters.redis.embedded.data_folder import DataFolder, socket_path
from engine.errors import EngineError

_LAUNCHES_MAX = 3


class SupervisorLaunch:
    """A supervisor that this process has started, and the pipe on which it reports."""

    def __init__(self, folder: DataFolder, asked: str | None) -> None:
        binary, path = find_server(folder.path, asked), socket_path(folder.path)
        self._reader, writer = os.pipe2(os.O_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._reader, select.POLLIN)
        self._received = b""
        try:
            with folder.open_log() as log:
                program = server_supervisor.__file__
                half = subprocess.Popen([sys.executable, "-I", "-S", program, str(folder.path), binary, path],
                                        stdin=subprocess.DEVNULL, stdout=writer, stderr=log)
        finally:
            os.close(writer)
        half.wait()  # the half that lives on has no parent
        while self._listen(None) and b"\n" not in self._received:
            pass

    def wait(self, patience_s: float) -> None:
        """Listen for so many seconds; raises `EngineError` with the supervisor's words if it failed."""
        if not self._listen(patience_s):
            self._raise_failure()
            time.sleep(patience_s)

    def read_to_end(self) -> None:
        """As `wait`, for a supervisor that has ended."""
        while self._listen(None):
            pass
        self._raise_failure()

    def close(self) -> None:
        """Close the pipe."""
        if self._reader >= 0:
            os.close(self._reader)
            self._reader = -1

    def _listen(self, patience_s: float | None) -> bool:
        """Read what comes within the time; return False once the other side has closed."""
        if not self._poll.poll(None if patience_s is None else patience_s * 1000):
            return True
        part = os.read(self._reader, 4096)
        self._received += part
        return bool(part)

    def _raise_failure(self) -> None:
        for line in self._received.decode(errors="replace").splitlines():
            if line.startswith("failed "):
                raise EngineError("the embedded Redis does not start: " + line.removeprefix("failed "))


def relaunch(folder: DataFolder, binary: str | None, before: SupervisorLaunch | None,
             launches: int) -> SupervisorLaunch:
    """Start a supervisor where there is none.

    `before` is the launch of the one that is gone, `launches` is how many there were with this one. Raises
    `EngineError` where `before` has said why a server cannot be started, and after too many launches.
    """
    if before is not None:
        before.read_to_end()
        before.close()
    if launches > _LAUNCHES_MAX:
        raise EngineError(f"the embedded Redis of {folder.path} dies as it starts; "
                          f"see {folder.path / folder_files.SERVER_LOG}")
    return SupervisorLaunch(folder, binary)
