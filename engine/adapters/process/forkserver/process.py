"""The fork server: imports the handlers once, then forks a worker for each order in milliseconds, pages shared.

    python -P -c '…' ROOT FD        started by the host, with the control socket as descriptor FD

Duties
1. Fork workers with the descriptors that came with the order; keep none of them.
2. Report their deaths, when nothing is left of them (see `reaper`).
3. When the control socket ends, the pool is gone: end everything below, and exit.

Where workers import the handlers themselves (see `core/starting`), it imports nothing, and forks or spawns them empty.
It runs no user code after the imports, waits in poll() only, and never takes a lock. What the imports may have
replaced (`os.fork`, `select.poll`, signal handlers …) is bound before them, or taken back after them.
"""

import contextlib
import gc
import os
import signal
import socket
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from os import close, fork
from select import POLLIN
from typing import Any

import orjson
import setproctitle

from engine.adapters.kernel import affinity, descendants, open_files, prctl, signals
from engine.adapters.process.forkserver.handler_table import LoadedHandler
from engine.adapters.process.forkserver.importing import import_all, import_in_worker, send_scout, starting_of
from engine.adapters.process.forkserver.reaper import Reaper, WorkerDeath
from engine.adapters.process.forkserver.spawned import execute_worker, write_config
from engine.adapters.process.forkserver.worker_start import WorkerDescriptors, WorkerStart, become_worker
from engine.adapters.process.resources.final_usage import UsageMarks
from engine.adapters.process.worker.process import WorkerSettings
from engine.core.worker import frames
from engine.core.worker.frames import PACKET_BYTES_MAX
from engine.core.worker.start_method import Starting

_ENDS = 6


@dataclass(slots=True)
class ForkServer:
    """One fork server, which serves the pool at the other end of `control`."""

    control: socket.socket
    config: dict[str, Any]
    handlers: dict[bytes, LoadedHandler] = field(default_factory=dict)
    reaper: Reaper = field(init=False)
    marks: UsageMarks = field(init=False)
    starting: Starting = field(init=False)
    failures: dict[str, str] = field(default_factory=dict)  # of imports
    config_fd: int = -1  # what a spawned worker reads

    def __post_init__(self) -> None:
        self.reaper = Reaper(self._died)
        self.starting = starting_of(self.config)
        self.marks = UsageMarks(self.config["page"], keep=self.starting.method == "spawn")

    # -- start ----------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Import everything, and say what was found."""
        config = self.config
        prctl.adopt_orphans()
        prctl.set_threads(config["threads"], os.environ)
        signals.ignore()
        affinity.hold(config["cores"])  # as many as a worker has: libraries count them when they are imported
        setproctitle.setproctitle(f"ganger: fork server {config['pool']}")
        os.environ.pop("SPT_NOENV", None)  # it is read at the first call; programs of handlers need not see it
        if self.starting.imports_once:
            imported = import_all(config)
            self.handlers, report = imported.handlers, imported.report
        else:
            report = send_scout(config)
        _check_open(self.control)
        self.failures = report["failures"]
        if self.starting.method == "spawn":
            self.config_fd = write_config(config, self.failures)
        self.reaper.own = frozenset(descendants.children(os.getpid()))
        signals.take_back()
        setproctitle.setproctitle(f"ganger: fork server {config['pool']}")  # a module may have its own idea
        prctl.flush_output()  # or each worker would write it again
        open_files.note()
        gc.disable()
        gc.collect()
        gc.freeze()  # what exists now is never looked at again, so its pages stay shared
        self._say({"ready": report})

    # -- loop -----------------------------------------------------------------------------------------------------

    def serve(self) -> None:
        """Until the pool is gone."""
        control, reaper = self.control.fileno(), self.reaper
        reaper.poll.register(control, POLLIN)
        while True:
            ready = reaper.wait()
            if control in ready and not self._obey():
                return
            reaper.reap(ready)

    def _obey(self) -> bool:
        """Carry out one order; False when there will be no more."""
        try:
            packet, fds, _, _ = socket.recv_fds(self.control, PACKET_BYTES_MAX, _ENDS, socket.MSG_CMSG_CLOEXEC)
        except ConnectionError:
            return False
        if not packet:
            return False
        order = orjson.loads(packet)
        if len(fds) < _ENDS:  # the kernel leaves out those for which this process has no room
            for fd in fds:
                close(fd)
            self._refuse(order["spawn"], "the fork server has too many open files (ulimit -n)")
        else:
            self._fork(order["spawn"], order["slot"], order.get("cores", []), WorkerDescriptors(*fds))
        return True

    def _fork(self, spawn: int, slot: int, cores: list[int], ends: WorkerDescriptors) -> None:
        config, server = self.config, os.getpid()
        settings = WorkerSettings(f"{config['supervisor']}/{slot}", **config["limits"])
        try:
            pid = fork()
        except OSError as error:
            self._refuse(spawn, str(error))
            pid = -1
        if pid == 0:
            self.control.close()
            self.reaper.forget_all()
            affinity.hold(cores)
            if self.starting.method == "spawn":
                execute_worker(ends, slot, server, self.config_fd, self.config["page"])
            become_worker(ends, WorkerStart(settings, self.handlers, server, f"ganger: worker {slot}",
                                      self.marks.writer(slot), None if self.starting.imports_once else self._load))
        for fd in ends.all():
            close(fd)
        if pid > 0:
            self._announce(spawn, pid)

    def _load(self, handlers: dict[bytes, LoadedHandler], post: Callable[[bytes], None]) -> None:
        import_in_worker(self.config, self.failures, handlers, post)

    def _announce(self, spawn: int, pid: int) -> None:
        try:
            pidfd = self.reaper.watch(pid, spawn)
        except OSError as error:  # no descriptor is left for it: a worker whose death nobody would see must not run
            os.kill(pid, signal.SIGKILL)
            self._refuse(spawn, str(error))
        else:
            self._say({"spawned": spawn, "pid": pid}, pidfd)

    def _died(self, death: WorkerDeath) -> None:
        self._say({"exited": death.spawn, "status": death.status, "cpu_s": death.cpu_s,
                   "peak_rss_bytes": death.peak_rss_bytes})

    def _refuse(self, spawn: int, reason: str) -> None:
        self._say({"refused": spawn, "reason": reason})

    def _say(self, message: dict[str, Any], *fds: int) -> None:
        with contextlib.suppress(ConnectionError):  # the pool is gone: the loop will see it
            for packet in frames.pieces(orjson.dumps(message)):
                if fds:
                    socket.send_fds(self.control, [packet], list(fds))
                else:
                    self.control.send(packet)


def _check_open(control: socket.socket) -> None:
    """Nothing can be sent to the pool over a closed socket: stderr is the engine's own."""
    try:
        control.getpeername()
    except OSError as error:
        sys.exit("the fork server cannot go on: an imported module has closed descriptors that are not its own "
                 f"(os.closerange, say), among them the one to the pool: {error}")


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
    os.setsid()  # so that all below is in another session than the pool, and is not taken for one of its own children
    prctl.die_with_parent(signal.SIGKILL)  # while we import, nobody watches the control socket
    control = socket.socket(fileno=prctl.move_up(fd))  # where no file gets its number if a module should close it
    config = _receive_config(control)
    if config["sys_path"]:
        sys.path[:] = config["sys_path"]
    # `ImportAudit` finds the same and more, and says it once: not with each worker that is forked.
    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
    server = ForkServer(control, config)
    server.prepare()
    prctl.die_with_parent(0)  # from here on we outlive the pool, for as long as it takes to end all workers
    server.serve()
    server.reaper.end_all()
