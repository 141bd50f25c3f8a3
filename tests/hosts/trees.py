"""Engines as several hosts would run them: each a process tree of its own, in a network of its own if wanted."""

import os
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from engine import Client, TaskStatus
from engine.errors import BrokerError
from tests.hosts.servers import until
from tests.redis_server import _die_with_the_tests

LEASE_S = 5


def may_make_networks() -> bool:
    """Whether this user may make network namespaces here."""
    name = f"ganger-{os.getpid()}-try"
    try:
        made = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False
    if made:
        subprocess.run(["ip", "netns", "del", name], check=True)
    return made


class Network:
    """Namespaces that reach this one over a bridge; the link of each can be cut."""

    def __init__(self) -> None:
        self.number = os.getpid() % 250
        self.bridge, self.host = f"gb{os.getpid()}", f"10.211.{self.number}.1"
        self.names: list[str] = []
        _ip("link", "add", self.bridge, "type", "bridge")
        _ip("addr", "add", f"{self.host}/24", "dev", self.bridge)
        _ip("link", "set", self.bridge, "up")

    def join(self) -> str:
        """A new namespace; its name is also that of its end of the link here."""
        name, address = f"gn{os.getpid()}{len(self.names)}", f"10.211.{self.number}.{len(self.names) + 2}/24"
        self.names.append(name)
        _ip("netns", "add", name)
        _ip("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
        _ip("link", "set", name, "master", self.bridge)
        _ip("link", "set", name, "up")
        _ip("-n", name, "addr", "add", address, "dev", "eth0")
        for device in ("eth0", "lo"):
            _ip("-n", name, "link", "set", device, "up")
        return name

    def cut(self, name: str) -> None:
        _ip("link", "set", name, "down")

    def heal(self, name: str) -> None:
        _ip("link", "set", name, "up")

    def close(self) -> None:
        for name in self.names:
            _ip("netns", "del", name)
        _ip("link", "del", self.bridge)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


class Tree:
    """One engine of two workers."""

    def __init__(self, name: str, url: str, folder: Path, network: str | None = None) -> None:
        inside = ["ip", "netns", "exec", network] if network else []
        self.log = (folder / f"{name}.log").open("w")
        self.process = subprocess.Popen(
            [*inside, sys.executable, "-m", "engine", "run", "--redis-url", url, "--handlers",
             "tests.hosts.hosts_handlers", "--set", f"lease_s={LEASE_S}", "--set", "max_workers=2"],
            env={**os.environ, "TRACED_HOST": name}, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
            preexec_fn=_die_with_the_tests)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()


class Ledger:
    """Tasks that were submitted, and the trace of their runs."""

    def __init__(self, client: Client, folder: Path) -> None:
        self.client, self.trace = client, folder / "trace"
        self.trace.touch()
        self.ids: list[str] = []

    def submit(self, count: int, seconds: float = 0.4) -> list[str]:
        new = self.client.submit_many({"task_type": "traced", "payload": {
            "trace": str(self.trace), "seconds": seconds}} for _ in range(count))
        self.ids += new
        return new

    def workers(self, count: int) -> None:
        """Wait until so many supervisors are there."""
        until(lambda: _quietly(lambda: len(self.client.workers()) == count))

    def running_on(self, host: str) -> bool:
        return f" {host} " in self.trace.read_text()

    def begun(self) -> int:
        """How many tasks have begun."""
        return len({line.split(" ")[0] for line in self.trace.read_text().splitlines()})

    def check(self, patience_s: float = 90.0) -> None:
        """Each task has completed, once, and no two runs of one were ever alive at the same time."""
        until(lambda: _quietly(lambda: all(
            task.status is TaskStatus.COMPLETED for task in self.client.wait(self.ids, 5))), patience_s)
        beats: defaultdict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
        for line in self.trace.read_text().splitlines():
            task_id, run, _, at_s = line.split(" ")
            beats[task_id][int(run)].append(float(at_s))
        assert set(beats) == set(self.ids), "every task has run"
        for task_id, runs in beats.items():
            ordered = sorted(runs)
            for run, following in pairwise(ordered):
                assert max(runs[run]) < min(runs[following]), f"{task_id} ran twice at once: {run} and {following}"
            ends = self.client.outcomes(task_id)
            assert [end["cause"] for end in ends].count("returned") == 1
            assert {end["cause"] for end in ends} <= {"returned", "lease_lost"}, ends


def _quietly(ask: Callable[[], bool]) -> bool:
    try:
        return ask()
    except BrokerError:
        return False
