"""The processes of the root's children: starts them, speaks with them, notices their ends and notes why they died.

Decides nothing. The keeper is told of the deaths, and publishes them beside what it measures of the processes.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from engine.adapters.kernel.prctl import die_with_parent
from engine.core.tree.supervision import ChildState
from engine.ports.poller import Poller
from engine.services.bootstrap import Bootstrap
from engine.services.tree.channel import ControlChannel

GONE_S = 10.0  # what is killed and not gone by then hangs in the kernel


@dataclass(slots=True)
class ChildProcess:
    """One child process."""

    name: str
    process: subprocess.Popen[bytes]
    channel: ControlChannel
    pidfd: int
    well_s: float  # when it reported last that its loop goes round
    has_spoken: bool = False
    killed_s: float | None = None  # when it was killed first; it ought to be gone soon


class ChildProcesses:
    """The children that run, by name.

    `received(name, message)` and `ended(name, exit code)` are called from the poller; a code below 0 is a signal.
    """

    def __init__(self, poller: Poller, received: Callable[[str, dict[str, Any]], None],
                 ended: Callable[[str, int], None]) -> None:
        self.poller, self._received, self._ended = poller, received, ended
        self.running: dict[str, ChildProcess] = {}

    def start(self, name: str, bootstrap: Bootstrap) -> None:
        """Start the child `name`: its first word is its kind, the rest its own name.

        Raises `OSError` if the host has no process, descriptor or memory for it; nothing is left of it then.
        """
        kind, _, own_name = name.partition(" ")
        with contextlib.ExitStack() as undo:
            ours, theirs = ControlChannel.pair()
            undo.callback(ours.close)
            with theirs, contextlib.closing(os.fdopen(bootstrap.to_fd(), "rb")) as document:
                fds = (document.fileno(), theirs.fileno())
                process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "engine.services.tree.child", kind, own_name or kind, *map(str, fds)],
                    pass_fds=fds, stdin=subprocess.DEVNULL, process_group=0, preexec_fn=_die_with_root)
            undo.callback(_end, process)
            pidfd = os.pidfd_open(process.pid)
            undo.callback(os.close, pidfd)
            self._adopt(name, process, ours, pidfd)
            undo.pop_all()

    def tell(self, name: str, message: dict[str, Any]) -> None:
        """Send a message to a child, if it runs."""
        if name in self.running:
            self.running[name].channel.send(message)

    def kill(self, name: str) -> None:
        """Send SIGKILL to a child, if it runs."""
        if name in self.running:
            if self.running[name].killed_s is None:
                self.running[name].killed_s = time.monotonic()
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.running[name].pidfd, signal.SIGKILL)

    def is_healthy(self, now_s: float) -> bool:
        """Whether every child that was killed has gone, or had no time to."""
        return all(child.killed_s is None or now_s - child.killed_s < GONE_S for child in self.running.values())

    def _adopt(self, name: str, process: subprocess.Popen[bytes], control: socket.socket, pidfd: int) -> None:
        def receive(message: dict[str, Any] | None) -> None:
            if message is not None:
                child.well_s, child.has_spoken = time.monotonic(), True
                self._received(name, message)

        channel = ControlChannel(control, self.poller, receive)
        child = ChildProcess(name, process, channel, pidfd, time.monotonic())
        try:
            self.poller.register(pidfd, lambda mask: self._reap(child))
        except OSError:
            channel.close()
            raise
        self.running[name] = child

    def _reap(self, child: ChildProcess) -> None:
        code = child.process.wait()  # at once: a process's descriptor is readable when it has ended
        self.poller.unregister(child.pidfd)
        os.close(child.pidfd)
        child.channel.close()
        if self.running.get(child.name) is child:
            del self.running[child.name]
        self._ended(child.name, code)


class ChildDeaths:
    """The last one of each child. Moments are of the monotonic clock, which all processes of a host share."""

    def __init__(self) -> None:
        self._last: dict[str, dict[str, Any]] = {}
        self._hung: set[str] = set()

    def hangs(self, name: str) -> None:
        """It says nothing any more, and is being killed for it."""
        self._hung.add(name)

    def ended(self, name: str, code: int) -> None:
        """With exit code `code`, below 0 for a signal. An end in good order is no death."""
        was_hung = name in self._hung
        self._hung.discard(name)
        if code:
            self._last[name] = {"cause": "it hung" if was_hung else _cause(code), "at_s": time.monotonic()}

    def message(self, children: Mapping[str, ChildState]) -> dict[str, Any]:
        """For the keeper: {"children": {name: {"restarts", "last_death": {"cause", "at_s"} or None}}}."""
        return {"do": "tell of children", "children": {
            name: {"restarts": child.restarts, "last_death": self._last.get(name)} for name, child in children.items()}}


def _cause(code: int) -> str:
    if code > 0:
        return f"exited with {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def _die_with_root() -> None:
    """While a child imports, it does not notice that its channel ends; `ChildRunner.run` takes this back."""
    die_with_parent(signal.SIGKILL)
