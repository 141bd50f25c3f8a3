"""A real engine with the API beside its pools, for the tests of the API."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx

from engine.adapters.redis.embedded.server import await_end

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
PATIENCE_S = 30


class Engine:
    """`ganger run --api` with the handlers of api_handlers.py, in a folder of its own; `settings` as with --set.

    `serves`: whether the API is expected to listen.
    """

    def __init__(self, command: str = "run", variables: Mapping[str, str] | None = None, *, serves: bool = True,
                 **settings: Any) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ganger-test-"))
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("GANGER_")}
        self.environment |= {"GANGER_DATA_DIR": str(self.folder / "data"), "PYTHONPATH": str(ROOT), **(variables or {})}
        settings = {"api_port": 0, "max_workers": 2, "sample_interval_s": 0.2, **settings}
        self.arguments = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
        if command == "run":
            self.arguments = ["--api", "--handlers", "api_handlers", *self.arguments]
        self.said: list[dict[str, Any]] = []
        self.has_said = threading.Condition()
        self.process = self.popen(command, *self.arguments)
        self.reader = threading.Thread(target=self._listen, daemon=True)
        self.reader.start()
        self.url = self.await_line(lambda row: row["message"] == "the API listens")["url"] if serves else ""
        if command == "run":
            self.await_line(lambda row: row["message"] == "ready" and row["child"] == "pool default")
        self.http = httpx.Client(base_url=self.url, timeout=PATIENCE_S)

    def popen(self, *arguments: str) -> "subprocess.Popen[str]":
        return subprocess.Popen([sys.executable, "-m", "engine", *arguments], env=self.environment, cwd=HERE, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def ganger(self, *arguments: str) -> str:
        """Run a command of the same engine; its output."""
        process = self.popen(*arguments)
        told, errors = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0, errors
        return told

    def _listen(self) -> None:
        assert self.process.stderr is not None
        for text in self.process.stderr:
            with self.has_said:
                self.said.append(json.loads(text) if text.startswith("{") else {"message": text})
                self.has_said.notify_all()
        with self.has_said:
            self.said.append({"message": "(end)"})
            self.has_said.notify_all()

    def await_line(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first line of its log that is wanted, of those there are or the next ones."""
        seen = 0
        with self.has_said:
            while True:
                for row in self.said[seen:]:
                    if row["message"] != "(end)" and wanted(row):
                        return row
                seen = len(self.said)
                is_over = seen > 0 and self.said[-1]["message"] == "(end)"
                if is_over or not self.has_said.wait(PATIENCE_S):
                    raise AssertionError(f"it has not said so: {self.said[-100:]}")

    def submit(self, task_type: str, payload: Any = None, **options: Any) -> dict[str, Any]:
        answer = self.http.post("/tasks", json={"task_type": task_type, "payload": payload, **options})
        assert answer.status_code == 201, answer.text
        task: dict[str, Any] = answer.json()
        return task

    def run(self, task_type: str, payload: Any = None, **options: Any) -> dict[str, Any]:
        """Submit it, wait for its end; the task as it is then."""
        task_id = self.submit(task_type, payload, **options)["id"]
        answer = self.http.get(f"/tasks/{task_id}/result", params={"wait": PATIENCE_S})
        assert answer.status_code == 200, answer.text
        task: dict[str, Any] = self.http.get(f"/tasks/{task_id}").json()
        return task

    def stop(self) -> int:
        """End it as a user would; the exit code."""
        self.process.terminate()
        code = self.process.wait(PATIENCE_S)
        self.reader.join(PATIENCE_S)
        return code

    def close(self) -> None:
        self.http.close()
        self.process.kill()
        self.process.wait()
        self.reader.join(PATIENCE_S)
        await_end(self.folder / "data")
        shutil.rmtree(self.folder, ignore_errors=True)
