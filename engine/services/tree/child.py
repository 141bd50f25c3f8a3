"""A child process of the root: `python -m engine.services.tree.child KIND NAME BOOTSTRAP_FD CONTROL_FD`.

It sets up what all children share (settings, logs, title, the channel to the root) and runs the loop of its service.
The channel is the lifeline: when the root is gone, the child stops at once. SIGTERM drains it. Ctrl-C on a terminal and
SIGHUP are for the root, which tells its children what to do.
"""

import importlib
import signal
import socket
import sys
import time
from typing import Any, Protocol, runtime_checkable

from setproctitle import setproctitle

from engine import logs
from engine.adapters.kernel.prctl import die_with_parent
from engine.adapters.poller import EpollPoller
from engine.services import composition
from engine.services.bootstrap import Bootstrap
from engine.services.redis_log import RedisLog, keep_log
from engine.services.tree.channel import ControlChannel
from engine.services.tree.services import MODULES
from engine.services.tree.signal_queue import SignalQueue

WELL_S = 2.0  # how often a child reports to the root that its loop goes round


class ServiceLoop(Protocol):
    """What a service provides."""

    def turn(self, patience_s: float) -> None:
        """Do one round, and wait for `patience_s` seconds at most."""

    def drain(self) -> None:
        """End when the work that has begun has ended."""

    def stop(self) -> None:
        """End now."""

    @property
    def is_done(self) -> bool:
        """Whether there is no further round."""

    def close(self) -> int:
        """Clean up; return the exit code."""


@runtime_checkable
class Scalable(Protocol):
    """A loop that can be given more or fewer workers."""

    def scale(self, workers: int | str) -> None:
        """Have as many workers: a number, or "auto"."""


@runtime_checkable
class Resumable(Protocol):
    """A loop that asks whether to go on when something that it needs is not there."""

    def go_on(self) -> None:
        """Go on all the same."""


@runtime_checkable
class ChildrenObserver(Protocol):
    """A loop that is told how the root's children are."""

    def learn(self, children: dict[str, Any]) -> None:
        """Take the restarts and the last death of each child: see `children.ChildDeaths.message`."""


class ChildRunner:
    """Runs the loop of one service, and passes the root's messages on to it."""

    def __init__(self, kind: str, name: str, bootstrap: Bootstrap, control: socket.socket,
                 redis_log: RedisLog) -> None:
        self.redis_log = redis_log
        self.poller = EpollPoller()
        self.channel = ControlChannel(control, self.poller, self._receive)
        make = importlib.import_module(MODULES[kind]).make_loop
        self.loop: ServiceLoop = make(name, bootstrap, self.poller, self.channel.send)
        self._signals = SignalQueue(self.poller, (signal.SIGTERM,), ignored=(signal.SIGINT, signal.SIGHUP))

    def run(self) -> int:
        """Run the loop to its end; return the exit code."""
        die_with_parent(0)  # from here on the channel reports the root's end, and there is time to end in good order
        well_s = 0.0
        while not self.loop.is_done:
            now_s = time.monotonic()
            if now_s >= well_s + WELL_S:
                well_s = now_s
                self.channel.send({"is": "well"})
            if self._signals.pending:
                self._signals.pending.clear()
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
                self.redis_log.put(row)
            case {"do": "level", "level": str(level)}:
                logs.set_level(level)


def main(arguments: list[str]) -> int:
    """Run one child; return its exit code."""
    kind, name, bootstrap_fd, control_fd = arguments
    bootstrap = Bootstrap.from_fd(int(bootstrap_fd))
    title = f"{kind} {name}" if name != kind else kind
    setproctitle(f"ganger: {title}")
    logs.set_up(bootstrap.settings.log_level, bootstrap.settings.log_format, process=title)
    control = socket.socket(fileno=int(control_fd))
    redis_log = keep_log(composition.engine_log(bootstrap.settings), title)
    return ChildRunner(kind, name, bootstrap, control, redis_log).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
