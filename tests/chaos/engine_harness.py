"""An engine as `ganger run` starts it, and everything that belongs to it as the kernel sees it."""

import contextlib
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from engine import Client
from tests.redis_server import RedisServer, binaries

ROOT = Path(__file__).parents[2]
WAIT_S = 60.0
WORKERS = 2
SETTINGS = {
    "MAX_WORKERS": WORKERS, "HANDLERS": "tests.integration.engine.tree_handlers", "SHUTDOWN_GRACE_S": 20,
    "RESTART_INTENSITY": 1000, "RESTART_PERIOD_S": 1, "MAX_CRASHES": 5,
    "LOG_LEVEL": "INFO",  # so that everybody has something to tell, and the connection for it, from the beginning
}
Snapshot = dict[str, Any]


def until(holds: Callable[[], Any], what: str, pause_s: float = 0.005) -> Any:
    """Wait for something true, and return it."""
    end_s = time.monotonic() + WAIT_S
    while not (found := holds()):
        assert time.monotonic() < end_s, f"not within {WAIT_S:.0f} s: {what}"
        time.sleep(pause_s)
    return found


class EngineHarness:
    """One engine after the other on one Redis; `log` gets what they say. `variables` are added to their environment."""

    def __init__(self, log: Path, redis: RedisServer | None = None, url: str = "",
                 variables: Mapping[str, str] | None = None, under: Sequence[str] = ()) -> None:
        self.redis = redis or RedisServer(binaries()[0])
        self.url, self.variables = url or self.redis.url, variables or {}
        self.under = list(under)  # a program that stands before it
        self.client = Client(redis_url=self.url)
        self.folder = Path(tempfile.mkdtemp(prefix="ganger-kills-"))
        self._log = log.open("ab")
        self._pipes = 0
        self.root: subprocess.Popen[bytes]
        self.baseline: Snapshot = {}

    def launch(self) -> None:
        """Start a root, and wait for nothing."""
        environ = {**os.environ, "GANGER_REDIS_URL": self.url, "PYTHONPATH": str(ROOT),
                   **{f"GANGER_{name}": str(value) for name, value in SETTINGS.items()}, **self.variables}
        self.root = subprocess.Popen([*self.under, sys.executable, "-m", "engine", "run"], cwd=self.folder, env=environ,
                                     stderr=self._log)

    def start(self) -> None:
        self.launch()
        self.await_whole()

    def terminate(self) -> None:
        """Have it drain. A program that stands before it hears no SIGTERM."""
        for pid in self.pids("root") if self.under else [self.root.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)

    def close(self) -> None:
        self.root.kill()
        self.root.wait()
        self.client.close()
        self.redis.stop()
        self._log.close()

    # -- what there is --------------------------------------------------------------------------------------------

    def processes(self) -> dict[int, str]:
        """All of the tree, with their titles; the dead that nobody has reaped are "zombie"."""
        found = {}
        with contextlib.suppress(psutil.NoSuchProcess):
            root = psutil.Process(self.root.pid)
            for one in [root, *root.children(recursive=True)]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    found[one.pid] = _title(one)
        return found

    def pids(self, title: str) -> list[int]:
        return [pid for pid, name in self.processes().items() if name.startswith(f"ganger: {title}")]

    def pid(self, title: str) -> int:
        return int(until(lambda: self.pids(title), f"there is a {title}")[0])

    def snapshot(self) -> Snapshot:
        """How many processes of each kind there are, with how many descriptors and shared mappings each."""
        seen: Counter[tuple[str, int, int]] = Counter()
        for pid, title in self.processes().items():
            with contextlib.suppress(OSError):
                kind = "ganger: worker" if title.startswith("ganger: worker") else title
                shared = sum(any(mark in line for mark in ("/memfd:", "/dev/shm", "/SYSV"))
                             for line in Path(f"/proc/{pid}/maps").read_text().splitlines())
                seen[kind, len(os.listdir(f"/proc/{pid}/fd")), shared] += 1
        return dict(seen)

    def await_whole(self) -> None:
        """Wait until the tree is as it was at first: every process, descriptor and mapping, and not one more."""
        if not self.baseline:
            until(lambda: len(self.pids("worker")) == WORKERS and self.pids("keeper"), "the tree is up")
            self.ended(self.client.submit("echo", {}))
            until(self._settle, "the tree has come to rest", 0.3)
            return
        try:
            until(lambda: self.snapshot() == self.baseline, "the tree is whole")
        except AssertionError:
            raise AssertionError(f"the tree is not whole: it was {self.baseline}, is {self.snapshot()}") from None

    def _settle(self) -> bool:
        before, self.baseline = self.baseline, self.snapshot()
        return before == self.baseline

    # -- what is done to it ---------------------------------------------------------------------------------------

    def kill(self, *pids: int) -> None:
        """kill -9; wait until they have gone from the processors."""
        pidfds = []
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                pidfds.append(os.pidfd_open(pid))
                os.kill(pid, signal.SIGKILL)
        for pidfd in pidfds:
            assert select.select([pidfd], [], [], WAIT_S)[0]
            os.close(pidfd)

    def newborn(self, title: str, known: set[int]) -> int:
        """The first process below `title` that is none of those known: it has hardly begun."""

        def look() -> list[int]:
            for parent in [self.root.pid] if title == "root" else self.pids(title):
                with contextlib.suppress(psutil.NoSuchProcess):
                    return [one.pid for one in psutil.Process(parent).children() if one.pid not in known]
            return []

        return int(until(look, f"the {title} has a new child", 0.0005)[0])

    # -- what it has to do ----------------------------------------------------------------------------------------

    def submit_held(self, task_type: str = "hold", **options: Any) -> "Held":
        self._pipes += 1
        names = {name: str(self.folder / f"{name}{self._pipes}") for name in ("started", "go")}
        for name in names.values():
            os.mkfifo(name)
        return Held(self.client.submit(task_type, names, **options), names)

    def ended(self, *ids: str) -> list[Any]:
        tasks = self.client.wait(ids, timeout=WAIT_S)
        assert len(tasks) == len(ids), "a task has not ended: is it lost?"
        return list(tasks)


class Held:
    """A task that says when it has started, and waits to be let go."""

    def __init__(self, task_id: str, names: dict[str, str]) -> None:
        self.id, self.names = task_id, names

    def started(self) -> list[int]:
        """Wait for its start; what it says of itself."""
        pipe = os.open(self.names["started"], os.O_RDONLY | os.O_NONBLOCK)
        try:
            words = b""
            end_s = time.monotonic() + WAIT_S
            while not words.endswith(b"\n"):
                left_s = end_s - time.monotonic()
                assert left_s > 0, "a task did not start: is it lost?"
                select.select([pipe], [], [], left_s)
                chunk = os.read(pipe, 100)
                words += chunk
                if not chunk:  # nobody has opened the other end yet, or whoever had is dead
                    time.sleep(0.002)
            return [int(word) for word in words.split()]
        finally:
            os.close(pipe)

    def let_go(self) -> None:
        def try_to() -> bool:
            try:
                os.close(os.open(self.names["go"], os.O_WRONLY | os.O_NONBLOCK))
            except OSError:  # nobody listens yet
                return False
            return True

        until(try_to, "it listens")


def lives(pid: int) -> bool:
    """Whether there is such a process; the dead that somebody has yet to reap are none."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    return False


def _title(process: psutil.Process) -> str:
    if process.status() == psutil.STATUS_ZOMBIE:
        return "zombie"
    return " ".join(process.cmdline()).strip()
