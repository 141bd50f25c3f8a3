"""The whole tree where /proc is not what it mostly is: what is not of processes is not there (ProcSubset=pid)."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from engine.client import Client

ROOT = Path(__file__).parents[3]
WAIT_S = 30.0
MOUNT = 'mount -t proc -o {options} proc /proc && exec "$@"'


@pytest.mark.parametrize("options", ["subset=pid", "hidepid=noaccess"])
def test_an_engine_does_its_work_and_tells_of_its_processes(redis_url: str, tmp_path: Path, options: str) -> None:
    if os.getuid():
        pytest.skip("only root may mount")
    tried = subprocess.run(["unshare", "--mount", "sh", "-c", MOUNT.format(options=options), "sh", "true"],
                           capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"no such mount here: {tried.stderr.strip()}")
    engine = [sys.executable, "-m", "engine", "run", "--redis-url", redis_url, "--handlers",
              "tests.integration.engine.tree_handlers", "--set", "max_workers=2", "--set", "restart_intensity=0"]
    log = tmp_path / "log"
    with log.open("w") as told, Client(redis_url=redis_url) as client:
        process = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", MOUNT.format(options=options), "sh", *engine], cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)}, stdin=subprocess.DEVNULL, stdout=told, stderr=told)
        try:
            ids = client.submit_many([{"task_type": "echo", "payload": {"n": n}, "delay": 0.1 * n} for n in range(20)])
            assert len(client.wait(ids, timeout=WAIT_S)) == 20
            titles = {one["title"].strip() for one in client._provider.broker().processes()}
            assert {"ganger: root", "ganger: keeper"} <= titles
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(WAIT_S) == 0, log.read_text()
    assert "Traceback" not in log.read_text()
