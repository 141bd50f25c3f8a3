"""How much the REST API bears on one uvicorn worker: submits and reads of a status, at full and at half the target.

wrk, from Debian's package of that name, makes the calls, on the same machine. No pool runs, as in `bench submit`. The
audit log is on, since it always is. `python -m bench.api SECONDS` watches the memory of API and engine under half the
target for so long instead.
"""

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from bench import rig
from engine.client import Client

SUBMITS_PER_S, READS_PER_S = 2_000, 3_000
CONNECTIONS = 16
SOAK_ROUND_S = 20.0
IDS = 1_000
# wrk has no rate: each connection pauses after an answer, so that all together make about the calls that are wanted.
SCRIPT = """
local ids, paths = {ids}, {{}}
for i, id in ipairs(ids) do paths[i] = "/api/v1/tasks/" .. id .. "/status" end
local body = '{body}'
function request()
  if #paths > 0 then return wrk.format("GET", paths[math.random(#paths)]) end
  return wrk.format("POST", "/api/v1/tasks", {{["Content-Type"] = "application/json"}}, body)
end
if {pause_ms} > 0 then function delay() return math.random(0, 2 * {pause_ms}) end end
function done(summary, latency)
  local failed = summary.errors
  io.write(string.format('{{"requests": %d, "us": %d, "p50": %d, "p99": %d, "failed": %d}}\\n', summary.requests,
    summary.duration, latency:percentile(50), latency:percentile(99),
    failed.connect + failed.read + failed.write + failed.status + failed.timeout))
end
"""


def measure(seconds: float = 8.0, transport: str = "unix") -> dict[str, Any]:
    """Calls a second and their latencies, on Redis over a Unix socket unless told otherwise."""
    with rig.redis_server(transport) as url:
        with rig.engine(url):
            pass  # it has announced its handlers
        client = Client(url)
        ids = client.submit_many([rig.NOOP] * IDS)
        client.close()
        with _api(url) as (address, process):
            _wrk(address, 2, [])
            figures = {"seconds": seconds, "transport": transport}
            before = _used(process)
            submits = _wrk(address, seconds, [])
            figures |= {"submits_per_s": submits["per_s"], "submit_ms_p99": submits["ms_p99"]}
            figures["api_us_per_submit"] = round((_used(process) - before) / submits["requests"] * 1e6, 1)
            before = _used(process)
            reads = _wrk(address, seconds, ids)
            figures |= {"reads_per_s": reads["per_s"], "read_ms_p99": reads["ms_p99"]}
            figures["api_us_per_read"] = round((_used(process) - before) / reads["requests"] * 1e6, 1)
            for name, rate, known in (("submit", SUBMITS_PER_S, []), ("read", READS_PER_S, ids)):
                half = _wrk(address, seconds, known, pause_ms=round(CONNECTIONS / (rate / 2) * 1000))
                figures |= {f"half_{name}s_per_s": half["per_s"], f"half_{name}_ms_p50": half["ms_p50"],
                            f"half_{name}_ms_p99": half["ms_p99"]}
            figures["api_rss_mib"] = round(process.memory_info().rss / 2**20, 1)
    return figures


@contextmanager
def _api(url: str, command: str = "api") -> Iterator[tuple[str, psutil.Process]]:
    """Serve it in a process of its own; its address, and that process."""
    folder = Path(tempfile.mkdtemp(prefix="ganger-bench-"))
    arguments = [command, "--redis-url", url, "--set", "api_port=0", "--log-format", "json"]
    if command == "run":
        arguments += ["--api", "--handlers", "bench.handlers", "--set", "result_ttl_s=120"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([sys.executable, "-m", "engine", *arguments], stderr=log)
        try:
            said = _await_listening(folder / "log", process)
            yield said["url"].removesuffix("/api/v1"), psutil.Process(said["pid"])
        finally:
            process.terminate()
            process.wait()
            shutil.rmtree(folder)


def _await_listening(log: Path, process: "subprocess.Popen[bytes]") -> dict[str, Any]:
    while process.poll() is None:
        for line in log.read_text().splitlines():
            row: dict[str, Any] = json.loads(line) if line.endswith("}") else {}
            if row.get("message") == "the API listens":
                return row
        time.sleep(0.05)
    raise RuntimeError(f"the API has not started: {log.read_text()[-2_000:]}")


def _wrk(address: str, seconds: float, ids: list[str], *, pause_ms: int = 0,
         strict: bool = True) -> dict[str, float]:
    """Calls for so long: reads of these tasks, or submits where there are none. Raises `RuntimeError` if one fails
    and that is not to be."""
    if shutil.which("wrk") is None:
        raise RuntimeError("there is no wrk here: apt-get install wrk")
    body = json.dumps({"task_type": "noop", "payload": rig.PAYLOAD})
    known = ",".join(f'"{one}"' for one in random.sample(ids, min(len(ids), IDS)))
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(SCRIPT.format(ids="{" + known + "}", body=body, pause_ms=pause_ms))
        script.flush()
        done = subprocess.run(["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{max(1, round(seconds))}s", "-s", script.name,
                               address], capture_output=True, text=True, check=True)
    told: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    if strict and told["failed"]:
        raise RuntimeError(f"{told['failed']:.0f} of {told['requests']:.0f} calls failed")
    return {"requests": told["requests"], "failed": told["failed"], "per_s": round(told["requests"] / told["us"] * 1e6),
            "ms_p50": round(told["p50"] / 1000, 2), "ms_p99": round(told["p99"] / 1000, 2)}


def _used(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def soak(seconds: float) -> None:
    """Half the target of submits and of reads, in turn, with workers that run the tasks; print the memory."""
    with rig.redis_server("unix") as url, _api(url, "run") as (address, process):
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            submits = _wrk(address, SOAK_ROUND_S / 2, [], pause_ms=round(CONNECTIONS / (SUBMITS_PER_S / 2) * 1000),
                           strict=False)
            client = Client(url)
            ids = [task.id for task in client.tasks(limit=IDS)]
            client.close()
            reads = _wrk(address, SOAK_ROUND_S / 2, ids, pause_ms=round(CONNECTIONS / (READS_PER_S / 2) * 1000),
                         strict=False)
            print(f"{seconds - (end_s - time.monotonic()):6.0f} s  API {process.memory_info().rss / 2**20:7.1f} MiB  "
                  f"{submits['per_s']} submits/s p99 {submits['ms_p99']} ms  {reads['per_s']} reads/s p99 "
                  f"{reads['ms_p99']} ms  "
                  f"{submits['failed'] + reads['failed']:.0f} failed", flush=True)


if __name__ == "__main__":
    os.environ.setdefault("PYTHONPATH", str(Path(__file__).parents[1]))
    soak(float(sys.argv[1]))
