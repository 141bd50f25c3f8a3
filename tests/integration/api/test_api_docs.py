"""docs/api.md: each endpoint has its curl, and each curl does what it says."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from tests.integration.api.api_kit import ROOT, Engine

PAGE = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
EXAMPLE = re.compile(r"^### `([A-Z]+ [^`]+)`\n[^#]*?```sh\n(.*?)```", re.DOTALL | re.MULTILINE)
EXAMPLES: dict[str, str] = dict(EXAMPLE.findall(PAGE))

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    running = Engine()
    yield running
    running.close()


@pytest.fixture(scope="module")
def variables(engine: Engine) -> dict[str, str]:
    """What the page says that they are."""
    hook = engine.http.post("/webhooks", json={"url": "https://example.org/hooks/ganger"})
    return {**os.environ, "API": engine.url, "ID": engine.run("thumbnail", {"id": 7})["id"],
            "FAILED": engine.run("fail", {})["id"], "WAITING": engine.submit("thumbnail", {"id": 7}, delay=600)["id"],
            "WORKER": engine.http.get("/workers").json()[0]["id"], "HOOK": hook.json()["id"]}


def test_every_endpoint_is_on_the_page(engine: Engine) -> None:
    document = engine.http.get("/openapi.json").json()
    told = {f"{method.upper()} {path.removeprefix('/api/v1')}"
            for path, operations in document["paths"].items() for method in operations}
    assert set(EXAMPLES) == told


@pytest.mark.parametrize("endpoint", EXAMPLES)
def test_each_example_works(endpoint: str, variables: dict[str, str]) -> None:
    strict = 'curl() { command curl --silent --show-error --fail-with-body --max-time 50 "$@"; }; set -e\n'
    done = subprocess.run(["bash", "-c", strict + EXAMPLES[endpoint]], env=variables, capture_output=True, text=True,
                          check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    method, path = endpoint.split()
    assert re.search(path.replace("{name}", "images").partition("{")[0].rstrip("/"), EXAMPLES[endpoint])
    assert method in EXAMPLES[endpoint] or method == ("POST" if "-d '" in EXAMPLES[endpoint] else "GET")
