"""What is seen of a real process, at a whole look and at a light one."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from engine.adapters.kernel.descendants import descendants
from engine.adapters.kernel.probe import Probe

MIB = 1 << 20
TAKES_MORE = """
import sys
kept = []
for line in sys.stdin:
    kept.append((open("/dev/null"), b"x" * (20 << 20)))
    print("more", flush=True)
"""


@pytest.fixture
def child() -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([sys.executable, "-c", TAKES_MORE], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               text=True)
    yield process
    process.kill()
    process.wait()


def take_more(child: subprocess.Popen[str]) -> None:
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write("\n")
    child.stdin.flush()
    assert child.stdout.readline() == "more\n"


def test_a_light_look_is_of_cpu_and_memory_and_has_the_rest_of_the_last_whole_one(child: subprocess.Popen[str]) -> None:
    probe = Probe(os.getpid(), descendants)
    take_more(child)
    before = probe.sample()[child.pid]
    take_more(child)
    light = probe.sample(fully=False)[child.pid]
    assert light["rss_bytes"] > before["rss_bytes"] + 15 * MIB
    assert (light["open_files"], light["title"]) == (before["open_files"], before["title"])
    assert light.keys() == before.keys()
    whole = probe.sample()[child.pid]
    assert whole["context_switches_per_s"] is not None
    assert probe.sample(fully=False)[child.pid]["context_switches_per_s"] is None, "it was of another second"
    assert whole["open_files"] == before["open_files"] + 1
    assert (whole["ppid"], whole["threads"]) == (os.getpid(), 1)


def test_the_first_look_is_a_whole_one_and_who_has_ended_is_left_out(child: subprocess.Popen[str]) -> None:
    probe = Probe(os.getpid(), descendants)
    take_more(child)
    first = probe.sample(fully=False)[child.pid]
    assert first["open_files"] >= 4
    assert "-c" in first["title"]
    child.kill()
    child.wait()
    assert child.pid not in probe.sample(fully=False)
