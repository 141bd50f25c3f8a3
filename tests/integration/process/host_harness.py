"""A host with a real fork server, and what a test needs to talk to it as a pool does."""

import os
import time
from collections.abc import Callable
from typing import Any, TypeVar, cast

import orjson

from engine.adapters.kernel import descendants
from engine.adapters.poller import EpollPoller
from engine.adapters.process.pool.host import ProcessHost
from engine.core.task.priority import TaskPriority
from engine.core.task.record import Record, RecordOptions
from engine.core.worker import frames
from engine.ports.host import Booted, Event, Exited, HostSettings, Progressed, Replied, ServerReady

PATIENCE_S = 20.0
T = TypeVar("T")


class HostHarness:
    """Drives a host; events that nobody has waited for yet are kept in order."""

    def __init__(self, *modules: str, **settings: Any) -> None:
        self._fds, self._children = open_descriptors(), descendants.children(os.getpid())
        self.poller = EpollPoller()
        self.host = ProcessHost(HostSettings("test", modules=modules, **settings), self.poller)
        self.events: list[Event] = []
        self.token = 0

    def start(self) -> ServerReady:
        self.host.start()
        return self.wait_for(ServerReady)

    def close(self) -> None:
        """Stop, and see that nothing is left: no process, no zombie, no descriptor."""
        self.host.stop()
        self.host.events()
        self.poller.close()
        left = {pid: descendants.stat_fields(pid) for pid in descendants.children(os.getpid())}
        assert set(left) <= set(self._children), left  # of those before, an orphan of another test may have ended
        opened = open_descriptors().items() - self._fds.items()
        assert not opened, opened  # of those before, one of an earlier test may have been collected

    def turn(self, patience_s: float) -> None:
        soonest_s = self.host.next_deadline_s()
        if soonest_s is not None:
            patience_s = min(patience_s, max(0.0, soonest_s - time.monotonic()))
        self.poller.wait(patience_s)
        self.host.tick(time.monotonic())
        self.events.extend(self.host.events())

    def wait_for(self, kind: type[T], holds: Callable[[T], bool] = lambda event: True) -> T:
        """The first event of that kind, taken out."""
        until_s = time.monotonic() + PATIENCE_S
        while True:
            for event in self.events:
                if isinstance(event, kind) and holds(event):
                    self.events.remove(event)
                    return cast(T, event)
            if time.monotonic() > until_s:
                raise AssertionError(f"no {kind.__name__} in {PATIENCE_S} s, but {self.events}")
            self.turn(1.0)

    def all_of(self, kind: type[T]) -> list[T]:
        """Those that are here, taken out."""
        found = [event for event in self.events if isinstance(event, kind)]
        self.events = [event for event in self.events if not isinstance(event, kind)]
        return found

    def up(self, slot: int = 0) -> int:
        self.host.spawn(slot)
        return self.wait_for(Booted, lambda event: event.slot == slot).pid

    def ready(self) -> "HostHarness":
        """Itself, with a worker in the first slot and no event of a test before."""
        if self.host.pid(0) is None:
            self.up()
        self.events.clear()
        return self

    def send(self, task_type: str, payload: Any = None, slot: int = 0, **options: Any) -> int:
        self.token += 1
        record = Record(task_type, "default", TaskPriority.NORMAL, 1, orjson.dumps(payload), RecordOptions(**options))
        self.host.send(slot, frames.task(self.token, 1, 0, 0.0, b"0123456789ABCDEFGHJ", record.encode()))
        return self.token

    def reply(self, token: int) -> tuple[bytes, dict[str, Any]]:
        event = self.wait_for(Replied, lambda event: event.token == token)
        return event.verdict, orjson.loads(event.outcome)

    def run(self, task_type: str, payload: Any = None, slot: int = 0, **options: Any) -> tuple[bytes, dict[str, Any]]:
        return self.reply(self.send(task_type, payload, slot, **options))

    def begin(self, task_type: str, payload: Any = None, slot: int = 0, **options: Any) -> tuple[int, str]:
        """Send a task and wait until it says that it has begun; return its token and what it says."""
        token = self.send(task_type, payload, slot, **options)
        event = self.wait_for(Progressed, lambda event: event.token == token)
        return token, orjson.loads(event.body)["message"]

    def end(self, slot: int = 0, why: str = "test") -> Exited:
        self.host.kill(slot, why)
        return self.wait_for(Exited, lambda event: event.slot == slot)


def open_descriptors() -> dict[str, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[name] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue
    return {name: target for name, target in found.items() if not target.startswith("/proc/")}


def is_alive(pid: int) -> bool:
    """Whether there is such a process, zombies excepted."""
    fields = descendants.stat_fields(pid)
    return fields is not None and fields[0] not in "ZX"
