"""Pools whose workers come to be in different ways, on a whole engine; and a script whose workers are spawned."""

import subprocess
import sys
from pathlib import Path

import pytest

from engine.scheduler import Scheduler

WAIT_S = 40
TASKS = """
import os, sys
from engine import handler

IMPORTED_BY = os.getpid()

@handler("plain")
def plain(payload): return {"own import": IMPORTED_BY == os.getpid(), "argv": sys.argv[0]}

@handler("choosy", start_method="spawn", queue="fresh")
def choosy(payload): return {"own import": IMPORTED_BY == os.getpid(), "argv": sys.argv[0]}
"""
SCRIPT = """
import os
from engine import get_scheduler

IMPORTED_BY = os.getpid()
scheduler = get_scheduler(start_method="spawn", max_workers=1)

def work(payload):
    return IMPORTED_BY == os.getpid()

scheduler.register_handler("work", work)
scheduler.start()
print("result", scheduler.result(scheduler.create_task(name="x", task_type="work", payload={}), wait=40))
scheduler.stop()
"""


def test_a_handler_runs_in_the_pool_whose_way_it_asks_for(redis_url: str, tmp_path: Path,
                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ways_tasks.py").write_text(TASKS)
    monkeypatch.syspath_prepend(str(tmp_path))
    pools = {"default": {"queues": ["default"]}, "fresh": {"queues": ["fresh"], "start_method": "spawn"}}
    with Scheduler(redis_url=redis_url, handlers=["ways_tasks"], max_workers=1, pools=pools) as scheduler:
        scheduler.start()
        client = scheduler.client
        tasks = client.wait([client.submit("plain", {}), client.submit("choosy", {})], timeout=WAIT_S)
        assert [task.result["own import"] for task in tasks] == [False, True]


def test_a_script_with_spawned_workers(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=55,
                          check=False)
    assert "result True" in done.stdout, done.stdout + done.stderr
