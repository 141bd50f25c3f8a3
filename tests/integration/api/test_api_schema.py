"""Everything that the OpenAPI document says is true: schemathesis makes requests from it, and judges the answers."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.api.api_kit import HERE, Engine

EXAMPLES = 3  # of each operation in each phase; it tries the bounds of every field beyond them
SEED = 1


@pytest.mark.timeout(300)  # it takes 20 s where nobody else computes
def test_the_api_is_as_its_document_says(tmp_path: Path) -> None:
    engine = Engine(webhooks_private=True)
    try:
        made = json.loads(engine.ganger("keys", "create", "all", "--role", "admin", "--json"))
        key = made["key"]
        engine.await_line(lambda row: row["message"] == "the API keys have changed" and made["id"] in row["added"])
        engine.http.headers["Authorization"] = f"Bearer {key}"
        tasks = [engine.submit(name, {"number": 1}) for name in ("noop", "double", "fail")]
        tasks += [engine.submit("noop", delay=3600)]
        done = subprocess.run(
            [sys.executable, "-m", "schemathesis.cli", "run", f"{engine.url}/openapi.json", "--header",
             f"Authorization: Bearer {key}", "--max-examples", str(EXAMPLES), "--seed", str(SEED),
             "--request-timeout", "10", "--continue-on-failure", "--no-color"],
            cwd=tmp_path, capture_output=True, text=True, check=False,
            env={**os.environ, "PYTHONPATH": str(HERE), "SCHEMATHESIS_HOOKS": "api_schema_hooks",
                 "API_SCHEMA_TASK_IDS": ",".join(task["id"] for task in tasks)})
        assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-5_000:]
        operations = len(re.findall('"x-role"', engine.http.get("/openapi.json").text))
        assert f"Tested: {operations}" in done.stdout
        assert engine.http.get("/scheduler/health").json()["ready"]
    finally:
        engine.close()
