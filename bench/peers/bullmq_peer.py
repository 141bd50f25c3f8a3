"""BullMQ on Node, in its two ways to run a job: in the worker's own process, and in child processes (sandboxed)."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import redis

from bench.peers.peer import Latency, Peer

HERE = Path(__file__).parent
MODULES_VARIABLE = "PEER_NODE_MODULES"


class Bullmq(Peer):
    label = "BullMQ, child processes"
    packages = ()
    settings = "sandboxed processors: 2 child processes of 1"
    tasks = 12_000
    mode, processes = "sandboxed", 1

    def commands(self) -> list[list[str]]:
        return [["node", str(HERE / "bullmq.mjs"), self.mode]] * self.processes

    def submit(self, count: int) -> float:
        return float(self._run("submit", count))

    def fill(self, count: int) -> float:
        return float(self._run("fill", count))

    def latencies(self, count: int) -> list[Latency]:
        return [(start_ms, result_ms) for start_ms, result_ms in self._run("latency", count)]

    def pending(self, connection: redis.Redis, total: int) -> int:
        return total - int(connection.zcard("bull:bench:completed"))  # type: ignore[arg-type]

    def versions(self) -> dict[str, str]:
        package = json.loads((Path(os.environ[MODULES_VARIABLE]) / "bullmq" / "package.json").read_text())
        node = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
        return {"BullMQ": package["version"], "Node": node.strip().removeprefix("v")}

    def _run(self, verb: str, count: int) -> Any:
        done = subprocess.run(["node", str(HERE / "bullmq.mjs"), verb, str(count)], capture_output=True, text=True,
                              check=True, timeout=120)
        return json.loads(done.stdout)


class BullmqInProcess(Bullmq):
    label = "BullMQ, in process"
    settings = "2 processes of 100 jobs at once (no isolation)"
    mode, processes, tasks, is_isolated = "inprocess", 2, 30_000, False


PEER = Bullmq
