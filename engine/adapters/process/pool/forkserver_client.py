"""The pool's side of the fork server: starts it, gives it orders, hears its reports."""

import os
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson

from engine.adapters.kernel.identity import Identity, born_at
from engine.adapters.process.resources.final_usage import UsagePage
from engine.core.worker import frames
from engine.core.worker.frames import PACKET_BYTES_MAX
from engine.ports.host import HostSettings
from engine.ports.poller import NOT_NOW, READ, WRITE, Poller

_ROOT = str(Path(__file__).parents[4])
_BOOT = ("import sys; sys.path.insert(0, sys.argv[1]); from engine.adapters.process.forkserver.process import main; "
         "del sys.path[0]; main(int(sys.argv[2]))")
_KEEP_ENVIRON = {"SPT_NOENV": "1"}  # setproctitle writes over arguments only: the mark stays in /proc/PID/environ

Report = Callable[[dict[str, Any], list[int]], None]


class ForkServerClient:
    """One fork server process. `report` gets its messages with their descriptors, `lost` is called at its end."""

    boot = _BOOT  # what the process runs

    def __init__(self, settings: HostSettings, mark: dict[str, str], page: UsagePage, poller: Poller, report: Report,
                 lost: Callable[[], None]) -> None:
        self._poller, self._report, self._lost = poller, report, lost
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs:
                self.process = subprocess.Popen(
                    [sys.executable, "-P", "-c", self.boot, _ROOT, str(theirs.fileno())], stdin=subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(), page.fd), env=_environment(settings) | mark)
        except OSError:
            ours.close()
            raise
        self.identity = Identity(self.process.pid, born_at(self.process.pid))
        self._socket, self._joiner = ours, frames.Joiner()
        self._orders: deque[tuple[bytes, Sequence[int]]] = deque()  # not sent yet, with their descriptors
        self._is_waiting = False  # for room in the socket
        self.is_ready = False
        self._is_open = True
        ours.setblocking(False)
        poller.register(ours.fileno(), self._ready)
        self._orders.extend((packet, ()) for packet in frames.pieces(orjson.dumps(_config(settings, page.fd))))
        self._flush()

    def order(self, message: dict[str, Any], fds: Sequence[int]) -> None:
        """Send an order, now or when there is room; the descriptors are closed here when they have gone."""
        self._orders.append((orjson.dumps(message), fds))
        self._flush()

    def close(self) -> None:
        """End the connection, which ends the fork server and everything below it."""
        if self._is_open:
            self._is_open = False
            self._poller.unregister(self._socket.fileno())
            self._socket.close()
            for _, fds in self._orders:
                _close(fds)

    def kill(self) -> None:
        """Send SIGKILL to the fork server."""
        with suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGKILL)

    def _ready(self, mask: int) -> None:
        if mask & WRITE:
            self._flush()
        while self._is_open:
            try:
                packet, fds, _, _ = socket.recv_fds(self._socket, PACKET_BYTES_MAX, 1, socket.MSG_CMSG_CLOEXEC)
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

    def _flush(self) -> None:
        try:
            while self._orders:
                packet, fds = self._orders[0]
                socket.send_fds(self._socket, [packet], list(fds))
                _close(self._orders.popleft()[1])
        except ConnectionError:
            return  # its end is reported by reading
        except OSError as error:
            if error.errno not in NOT_NOW:
                raise
        if self._is_waiting != bool(self._orders):
            self._is_waiting = not self._is_waiting
            self._poller.modify(self._socket.fileno(), READ | WRITE if self._is_waiting else READ)


def _close(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)


def _environment(settings: HostSettings) -> dict[str, str]:
    """Of the fork server. Python, from 3.13 on, is told how many cores workers have that are held to some."""
    count = {"PYTHON_CPU_COUNT": str(len(settings.shares[-1]))} if settings.shares else {}
    return os.environ | settings.environment | _KEEP_ENVIRON | count


def _config(settings: HostSettings, page_fd: int) -> dict[str, Any]:
    return {
        "page": page_fd, "cores": settings.shares[-1] if settings.shares else (),
        "starting": asdict(settings.starting), "others": [asdict(one) for one in settings.others],
        "supervisor": settings.supervisor, "pool": settings.pool, "modules": settings.modules, "main": settings.main,
        "functions": settings.functions, "threads": settings.threads,
        "sys_path": settings.sys_path or [path or os.getcwd() for path in sys.path],
        "limits": {"payload_bytes_max": settings.payload_bytes_max, "result_bytes_max": settings.result_bytes_max,
                   "log_bytes_max": settings.log_bytes_max, "task_timeout": settings.task_timeout,
                   "growth_bytes_max": settings.growth_bytes_max, "stop_s": settings.stop_s},
    }
