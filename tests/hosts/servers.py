"""Redis on several addresses: a master with a replica and Sentinels, and a Cluster of three."""

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis

from tests.redis_server import START_S_MAX, _die_with_the_tests, binaries

MASTER = "ganger-master"


def free_ports(count: int) -> list[int]:
    """Ports below those that a Cluster adds 10,000 to."""
    held: list[socket.socket] = []
    while len(held) < count:
        one = socket.socket()
        one.bind(("127.0.0.1", 0))
        if one.getsockname()[1] < 55_000:
            held.append(one)
        else:
            one.close()
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


def until(condition: Callable[[], Any], patience_s: float = 30.0) -> Any:
    """Ask again until it is so; errors of a Redis that is not there yet count as no."""
    limit_s = time.monotonic() + patience_s
    while True:
        try:
            if found := condition():
                return found
        except redis.RedisError as error:
            last: object = error
        else:
            last = "no"
        assert time.monotonic() < limit_s, f"it never came about: {last}"
        _pause()


def _pause() -> None:
    """A twentieth of a second, by a pipe that nobody writes to."""
    with socket.socketpair()[0] as end:
        end.settimeout(0.05)
        try:
            end.recv(1)
        except TimeoutError:
            return


class Node:
    """One process; what is written to its folder goes with it."""

    def __init__(self, port: int, config: dict[str, str], *, sentinel: bool = False, host: str = "127.0.0.1") -> None:
        self.port, self.host = port, host
        self.folder = Path(tempfile.mkdtemp(prefix="ganger-hosts-"))
        settings = {"port": str(port), "dir": str(self.folder), "protected-mode": "no", "save": '""',
                    "logfile": str(self.folder / "log"), **config}
        path = self.folder / "redis.conf"
        path.write_text("".join(f"{name} {value}\n" for name, value in settings.items()
                                if not (sentinel and name == "save")))
        command = [binaries()[0], str(path), *(["--sentinel"] if sentinel else [])]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL, preexec_fn=_die_with_the_tests)
        until(lambda: self.client().ping(), START_S_MAX)

    def client(self) -> redis.Redis:
        client = redis.Redis(self.host, self.port, socket_timeout=5, protocol=2)
        client.response_callbacks.clear()  # answers as they come
        return client

    def ask(self, *command: Any) -> Any:
        with self.client() as client:
            return client.execute_command(*command)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


class Sentinels:
    """A master, a replica, and three Sentinels that notice a death within a second."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        ports = free_ports(5)
        self.nodes = [Node(ports[0], {}, host=host), Node(ports[1], {"replicaof": f"{host} {ports[0]}"}, host=host)]
        until(lambda: b"master_link_status:up" in self.nodes[1].ask("INFO", "replication"))
        self.sentinels = [Node(port, {
            "sentinel monitor": f"{MASTER} {host} {ports[0]} 2", "sentinel down-after-milliseconds": f"{MASTER} 500",
            "sentinel failover-timeout": f"{MASTER} 3000"}, sentinel=True, host=host) for port in ports[2:]]
        until(lambda: all(sentinel.ask("SENTINEL", "CKQUORUM", MASTER) for sentinel in self.sentinels))
        until(lambda: all(len(sentinel.ask("SENTINEL", "REPLICAS", MASTER)) == 1 for sentinel in self.sentinels))

    @property
    def url(self) -> str:
        hosts = ",".join(f"{sentinel.host}:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{hosts}/{MASTER}"

    def fail_over(self) -> None:
        """Kill the master, and wait until the replica is one."""
        self.nodes[0].process.kill()
        until(lambda: self.nodes[1].ask("ROLE")[0] == b"master")

    def stop(self) -> None:
        for node in [*self.nodes, *self.sentinels]:
            node.stop()


class Cluster:
    """Three masters, and a replica of the one that has the engine's slot."""

    def __init__(self, slot: int) -> None:
        ports = free_ports(4)
        config = {"cluster-enabled": "yes", "cluster-node-timeout": "1000", "cluster-config-file": "nodes.conf"}
        self.nodes = [Node(port, config) for port in ports]
        bounds = [0, 5461, 10923, 16384]
        for node, low, high in zip(self.nodes, bounds, bounds[1:], strict=False):
            node.ask("CLUSTER", "ADDSLOTSRANGE", low, high - 1)
        for epoch, node in enumerate(self.nodes, 1):
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", epoch)
            self.nodes[0].ask("CLUSTER", "MEET", "127.0.0.1", node.port)
        self.owner = next(node for node, high in zip(self.nodes, bounds[1:], strict=False) if slot < high)
        self.replica = self.nodes[3]
        until(lambda: all(b"cluster_state:ok" in node.ask("CLUSTER", "INFO") for node in self.nodes[:3]))
        until(lambda: all(node.ask("CLUSTER", "NODES").count(b"connected") == 4 for node in self.nodes))
        owner_id = self.owner.ask("CLUSTER", "MYID").decode()
        until(lambda: self.replica.ask("CLUSTER", "REPLICATE", owner_id))
        until(lambda: b"master_link_status:up" in self.replica.ask("INFO", "replication"))
        until(lambda: all(sum(len(row) > 3 for row in node.ask("CLUSTER", "SLOTS")) == 1 for node in self.nodes))

    @property
    def url(self) -> str:
        others = [node for node in self.nodes[:3] if node is not self.owner]
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in others)

    def fail_over(self) -> None:
        """Kill the owner of the slot, and wait until its replica has it."""
        self.owner.process.kill()
        until(lambda: self.replica.ask("ROLE")[0] == b"master")

    def hand_over(self) -> None:
        """Let the replica take over from a master that lives on."""
        until(lambda: self.replica.ask("CLUSTER", "FAILOVER"))
        until(lambda: self.replica.ask("ROLE")[0] == b"master")

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()
