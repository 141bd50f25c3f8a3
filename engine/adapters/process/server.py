"""The pool's side of the fork server: starts it, gives it orders, hears its reports."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson

from engine.adapters.process.channel import Channel
from engine.core import frames
from engine.ports import HostSettings, Poller

_ROOT = str(Path(__file__).parents[3])
_BOOT = ("import sys; sys.path.insert(0, sys.argv[1]); from engine.adapters.process.forkserver import main; "
         "del sys.path[0]; main(int(sys.argv[2]))")
_PACKET_BYTES_MAX = frames.PIECE_BYTES_MAX + 1

Report = Callable[[dict[str, Any], list[int]], None]


class Server:
    """One fork server process. `report` gets its messages with their descriptors, `lost` is called at its end."""

    def __init__(self, settings: HostSettings, mark: dict[str, str], poller: Poller, report: Report,
                 lost: Callable[[], None]) -> None:
        self._poller, self._report, self._lost = poller, report, lost
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-c", _BOOT, _ROOT, str(theirs.fileno())], stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),), env=os.environ | mark)
        self._socket, self._channel = ours, Channel(ours, poller)
        self._joiner = frames.Joiner()
        self.is_ready = False
        self._is_open = True
        poller.register(self._reading_fd(), self._readable)
        self._channel.send(orjson.dumps(_config(settings)))

    def order(self, message: dict[str, Any], fds: Sequence[int]) -> None:
        """Send an order; the descriptors are closed here when they have gone."""
        self._channel.send(orjson.dumps(message), fds)

    def close(self) -> None:
        """End the connection, which ends the fork server and everything below it."""
        if self._is_open:
            self._is_open = False
            self._poller.unregister(self._reading)
            os.close(self._reading)
            self._channel.close()

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGKILL)

    def _reading_fd(self) -> int:
        """A copy of the descriptor: epoll tells one from the other, so reading and writing are registered apart."""
        self._reading = os.dup(self._socket.fileno())
        return self._reading

    def _readable(self, mask: int) -> None:
        while self._is_open:
            try:
                packet, fds, _, _ = socket.recv_fds(self._socket, _PACKET_BYTES_MAX, 1, socket.MSG_CMSG_CLOEXEC)
            except BlockingIOError:
                return
            except ConnectionError:
                packet, fds = b"", []
            if not packet:
                self.close()
                self._lost()
                return
            message = self._joiner.feed(packet)
            if message is not None:
                self._report(orjson.loads(message), fds)


def _config(settings: HostSettings) -> dict[str, Any]:
    return {
        "supervisor": settings.supervisor, "pool": settings.pool, "modules": settings.modules, "main": settings.main,
        "functions": settings.functions, "threads": settings.threads,
        "sys_path": settings.sys_path or [path or os.getcwd() for path in sys.path],
        "limits": {"payload_bytes_max": settings.payload_bytes_max, "result_bytes_max": settings.result_bytes_max,
                   "log_bytes_max": settings.log_bytes_max, "task_timeout": settings.task_timeout},
    }
