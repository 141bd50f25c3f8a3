"""What Prometheus and Grafana are given: names that exist, rules that hold, text that Prometheus's own tool accepts."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from engine.client.provider import RedisBrokerProvider
from engine.config import Settings
from engine.services.metrics.prometheus import PrometheusMetrics, exposition

CONFIG = Path(__file__).parents[3] / "config"
RULES = CONFIG / "prometheus" / "alerts.yml"
DASHBOARD = CONFIG / "grafana" / "ganger.json"
NAME = re.compile(r"\bganger_[a-z_]+")

with_promtool = pytest.mark.skipif(shutil.which("promtool") is None,
                                   reason="there is no promtool here (Debian's package prometheus)")


@pytest.fixture
def exported(redis_url: str) -> str:
    provider = RedisBrokerProvider(Settings(redis_url=redis_url))
    try:
        return exposition(PrometheusMetrics(), provider).decode()
    finally:
        provider.close()


def promtool(*arguments: str, given: str | None = None) -> str:
    done = subprocess.run(["promtool", *arguments], input=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_rules_and_dashboard_name_only_metrics_that_are_exported(exported: str) -> None:
    families = dict(re.findall(r"^# TYPE (\S+) (\S+)", exported, re.MULTILINE))
    names = {f"{name}_bucket" if kind == "histogram" else name for name, kind in families.items()}
    expressions = [*re.findall(r"expr: (.*?)\n        [fl]", RULES.read_text(), re.DOTALL)]
    expressions += [target["expr"] for panel in json.loads(DASHBOARD.read_text())["panels"]
                    for target in panel["targets"]]
    used = {name for text in expressions for name in NAME.findall(text)}
    assert used <= names
    assert len(used) > 15
    variables = json.loads(DASHBOARD.read_text())["templating"]["list"]
    assert {name for one in variables for name in NAME.findall(one["query"])} <= names


@with_promtool
def test_promtool_accepts_the_metrics(exported: str) -> None:
    assert promtool("check", "metrics", given=exported) == ""


@with_promtool
@pytest.mark.parametrize("arguments", [
    ("check", "config", "prometheus.yml"), ("check", "rules", "alerts.yml"), ("test", "rules", "alerts_test.yml")])
def test_promtool_accepts_the_configuration(arguments: tuple[str, str, str]) -> None:
    first, second, name = arguments
    assert "SUCCESS" in promtool(first, second, str(CONFIG / "prometheus" / name))


def test_the_panels_lie_beside_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"])
                 for y in range(place["y"], place["y"] + place["h"])}
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
