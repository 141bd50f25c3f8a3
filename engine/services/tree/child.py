"""A child process of the root: `python -m engine.services.tree.child KIND NAME BOOTSTRAP_FD CONTROL_FD`.

Sets up what all children share (settings, logs, title, the channel to the root) and runs the loop of its kind.
The channel is the lifeline: when the root is gone, the child stops at once.
"""

import contextlib
import importlib
import signal
import socket
import sys
import time
from typing import Any, Protocol, runtime_checkable

from setproctitle import setproctitle

from engine import logs
from engine.adapters.poller import EpollPoller
from engine.adapters.process.kernel.prctl import die_with_parent
from engine.services.tree.bootstrap import Bootstrap
from engine.services.tree.channel import ControlChannel
from engine.services.tree.redis_log import RedisLog, keep_log

WELL_S = 2.0  # how often a child tells the root that its loop goes round

KINDS = {"pool": "engine.services.pool.process", "keeper": "engine.services.keeper.process",
         "api": "engine.services.api.process"}


class ServiceLoop(Protocol):
    """What a kind of child provides."""

    def turn(self, patience_s: float) -> None:
        """One round; waits for `patience_s` at most."""

    def drain(self) -> None:
        """End when what is under way has ended."""

    def stop(self) -> None:
        """End now."""

    @property
    def is_done(self) -> bool: ...

    def close(self) -> int:
        """Clean up; return the exit code."""


@runtime_checkable
class Scalable(Protocol):
    """A loop that can be given more or fewer workers."""

    def scale(self, workers: int | str) -> None: ...


@runtime_checkable
class Resumable(Protocol):
    """A loop that asks whether to go on when something that it needs is not there."""

    def go_on(self) -> None: ...


@runtime_checkable
class ChildrenObserver(Protocol):
    """A loop that hears what became of the root's children."""

    def learn(self, children: dict[str, Any]) -> None: ...


class ChildRunner:
    def __init__(self, kind: str, name: str, bootstrap: Bootstrap, control: socket.socket,
                 journal: RedisLog) -> None:
        self.journal = journal
        self.poller = EpollPoller()
        self.channel = ControlChannel(control, self.poller, self._receive)
        make = importlib.import_module(KINDS[kind]).make_loop
        self._is_to_drain = False
        self.loop: ServiceLoop = make(name, bootstrap, self.poller, self.channel.send)
        self._wake_on_signals()

    def run(self) -> int:
        die_with_parent(0)  # from here on the channel tells of the root's end, and there is time to leave in good order
        well_s = 0.0
        while not self.loop.is_done:
            now_s = time.monotonic()
            if now_s >= well_s + WELL_S:
                well_s = now_s
                self.channel.send({"is": "well"})
            if self._is_to_drain:
                self._is_to_drain = False
                self.loop.drain()
            self.loop.turn(WELL_S)
        return self.loop.close()

    def _receive(self, message: dict[str, Any] | None) -> None:
        match message:
            case None | {"do": "stop"}:
                self.loop.stop()
            case {"do": "drain"}:
                self.loop.drain()
            case {"do": "go on"} if isinstance(self.loop, Resumable):
                self.loop.go_on()
            case {"do": "scale", "workers": workers} if isinstance(self.loop, Scalable):
                self.loop.scale(workers)
            case {"do": "tell of children", "children": dict(children)} if isinstance(self.loop, ChildrenObserver):
                self.loop.learn(children)
            case {"do": "journal", "row": str(row)}:
                self.journal.put(row)
            case {"do": "level", "level": str(level)}:
                logs.set_level(level)

    def _wake_on_signals(self) -> None:
        """SIGTERM drains; the terminal's Ctrl-C is the root's business."""
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setblocking(False)
        self._signals = ours, theirs
        signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
        self.poller.register(ours.fileno(), self._drain_wakeups)
        signal.signal(signal.SIGTERM, self._terminated)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def _terminated(self, number: int, frame: object) -> None:
        """Between any two instructions of a turn: nothing of the loop may be touched here."""
        self._is_to_drain = True

    def _drain_wakeups(self, mask: int) -> None:
        with contextlib.suppress(BlockingIOError):
            self._signals[0].recv(4096)


def main(arguments: list[str]) -> int:
    kind, name, bootstrap_fd, control_fd = arguments
    bootstrap = Bootstrap.from_fd(int(bootstrap_fd))
    title = f"{kind} {name}" if name != kind else kind
    setproctitle(f"ganger: {title}")
    logs.set_up(bootstrap.settings.log_level, bootstrap.settings.log_format, process=title)
    control = socket.socket(fileno=int(control_fd))
    return ChildRunner(kind, name, bootstrap, control, keep_log(bootstrap.settings, title)).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
