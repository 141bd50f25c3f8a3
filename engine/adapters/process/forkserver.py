"""The fork server: imports the handlers once, then forks a worker for each order in milliseconds, pages shared.

    python -P -c '…' ROOT FD        started by the host, with the control socket as descriptor FD

Duties
1. Fork workers with the descriptors that came with the order; keep none of them.
2. Reap them; when one has died, end what it leaves behind (orphans come to us, we adopt them), and only then report.
3. When the control socket ends, the pool is gone: end everything below, and exit.

It runs no user code after the imports, waits in poll() only, and never takes a lock.
"""

import contextlib
import gc
import os
import select
import signal
import socket
import sys
import warnings
from dataclasses import dataclass, field
from typing import Any

import orjson
import setproctitle

from engine.adapters.process import descendants, limits
from engine.adapters.process.birth import Ends, become_worker
from engine.adapters.process.child import WorkerSettings
from engine.adapters.process.loading import load
from engine.adapters.process.routes import Route, make_routes
from engine.core import frames
from engine.core.frames import PACKET_BYTES_MAX
from engine.handler import REGISTRY

_ENDS = 5
_ROUNDS_MAX = 50  # of killing at the end; each waits for the deaths of the one before
_AGAIN_MS = 100  # until the next look at orphans that have not died of their kill
_LOOKS_MAX = 50  # then deaths are reported with orphans left: they hang in the kernel, and nobody can end them


@dataclass(slots=True)
class Death:
    """A worker that is reaped, and not yet reported."""

    spawn: int
    status: int
    cpu_s: float
    peak_rss_bytes: int


@dataclass(slots=True)
class ForkServer:
    control: socket.socket
    config: dict[str, Any]
    wakeup: tuple[int, int] = (-1, -1)
    routes: dict[bytes, Route] = field(default_factory=dict)
    workers: dict[int, int] = field(default_factory=dict)  # pid -> spawn
    deaths: list[Death] = field(default_factory=list)
    looks: int = 0  # at what these left
    own: frozenset[int] = frozenset()  # children that the imports started: not ours to kill while we live

    # -- start ----------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Import everything, and say what was found."""
        config = self.config
        limits.adopt_orphans()
        limits.set_threads(config["threads"], os.environ)
        for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):  # ^C on a terminal is for the root to decide on;
            signal.signal(number, signal.SIG_IGN)  # the others must not kill a worker that is not ready for them yet
        setproctitle.setproctitle(f"ganger: fork server {config['pool']}")
        os.environ.pop("SPT_NOENV", None)  # it is read at the first call; programs of handlers need not see it
        failures = load(config["modules"], config["main"], config["functions"])
        self.routes = make_routes(REGISTRY)
        self.own = frozenset(descendants.children(os.getpid()))
        self.wakeup = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(self.wakeup[1], warn_on_full_buffer=False)
        setproctitle.setproctitle(f"ganger: fork server {config['pool']}")  # a module may have its own idea
        limits.flush_output()  # or each worker would write it again
        gc.disable()
        gc.collect()
        gc.freeze()  # what exists now is never looked at again, so its pages stay shared
        self._say({"ready": {"handlers": [spec.announcement() for spec in REGISTRY.values()], "failures": failures}})

    # -- loop -----------------------------------------------------------------------------------------------------

    def serve(self) -> None:
        """Until the pool is gone."""
        poll = select.poll()
        poll.register(self.control.fileno(), select.POLLIN)
        poll.register(self.wakeup[0], select.POLLIN)
        while True:
            for fd, _ in poll.poll(_AGAIN_MS if self.deaths else None):
                if fd == self.control.fileno():
                    if not self._obey():
                        return
                else:
                    with contextlib.suppress(BlockingIOError):
                        os.read(fd, 4096)
            self._bury()

    def _obey(self) -> bool:
        """Carry out one order; False when there will be no more."""
        try:
            packet, fds, _, _ = socket.recv_fds(self.control, PACKET_BYTES_MAX, _ENDS, socket.MSG_CMSG_CLOEXEC)
        except ConnectionError:
            return False
        if not packet:
            return False
        order = orjson.loads(packet)
        self._fork(order["spawn"], order["slot"], Ends(*fds))
        return True

    def _fork(self, spawn: int, slot: int, ends: Ends) -> None:
        config, server = self.config, os.getpid()
        settings = WorkerSettings(f"{config['supervisor']}/{slot}", **config["limits"])
        try:
            pid = os.fork()
        except OSError as error:
            self._say({"refused": spawn, "reason": str(error)})
            pid = -1
        if pid == 0:
            signal.set_wakeup_fd(-1)
            self.control.close()
            os.close(self.wakeup[0])
            os.close(self.wakeup[1])
            become_worker(ends, settings, self.routes, server, f"ganger: worker {slot}")
        for fd in (ends.tasks, ends.replies, ends.control, ends.output, ends.dump):
            os.close(fd)
        if pid > 0:
            self.workers[pid] = spawn
            pidfd = os.pidfd_open(pid)
            self._say({"spawned": spawn, "pid": pid}, pidfd)
            os.close(pidfd)

    # -- deaths ---------------------------------------------------------------------------------------------------

    def _bury(self) -> None:
        """Reap who has died; end what dead workers left; report a death when there is nothing left of it."""
        while self._reap():
            pass
        if self.deaths:
            strays = self._strays() or self._strays()  # the kernel may leave one out while others go (man 5 proc)
            self.looks += 1
            if strays and self.looks < _LOOKS_MAX:
                descendants.end(strays)  # their own deaths wake us again
                return
            self.looks = 0
            for death in self.deaths:
                self._say({"exited": death.spawn, "status": death.status, "cpu_s": death.cpu_s,
                           "peak_rss_bytes": death.peak_rss_bytes})
            self.deaths.clear()

    def _reap(self) -> bool:
        try:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return False
        spawn = self.workers.pop(pid, None)
        if spawn is not None:
            self.deaths.append(Death(spawn, status, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024))
        return pid != 0

    def _strays(self) -> list[int]:
        """Children that are no workers: orphans of dead ones. A live worker keeps its own, being a subreaper."""
        return [pid for pid in descendants.children(os.getpid()) if pid not in self.workers and pid not in self.own]

    def end_all(self) -> None:
        """Kill everything below, round by round until there is nothing."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for _ in range(_ROUNDS_MAX):
            below = descendants.children(os.getpid())
            if not below:
                return
            descendants.end(below)
            with contextlib.suppress(ChildProcessError):
                os.wait4(-1, 0)
                while os.wait4(-1, os.WNOHANG)[0]:
                    pass

    def _say(self, message: dict[str, Any], *fds: int) -> None:
        with contextlib.suppress(ConnectionError):  # the pool is gone: the loop will see it
            for packet in frames.pieces(orjson.dumps(message)):
                if fds:
                    socket.send_fds(self.control, [packet], list(fds))
                else:
                    self.control.send(packet)


def _receive_config(control: socket.socket) -> dict[str, Any]:
    joiner = frames.Joiner()
    while True:
        packet = control.recv(PACKET_BYTES_MAX)
        if not packet:
            sys.exit(0)
        message = joiner.feed(packet)
        if message is not None:
            config: dict[str, Any] = orjson.loads(message)
            return config


def main(fd: int) -> None:
    """Serve the pool at the other end of descriptor `fd`."""
    os.setsid()  # so that all below is in another session than the pool, and can be told from its own children
    limits.die_with_parent(signal.SIGKILL)  # while we import, nobody watches the control socket
    control = socket.socket(fileno=fd)
    control.set_inheritable(False)
    config = _receive_config(control)
    if config["sys_path"]:
        sys.path[:] = config["sys_path"]
    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
    server = ForkServer(control, config)
    server.prepare()
    limits.die_with_parent(0)  # from here on we outlive the pool, for as long as it takes to end all workers
    server.serve()
    server.end_all()
