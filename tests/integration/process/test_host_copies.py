"""Processes that a handler forks, and streams and descriptors that it takes into its own hands."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from engine.ports.host import Exited, Logged, Progressed, Spilled
from tests.integration.process.host_harness import HostHarness


@pytest.fixture(scope="module")
def harness() -> Iterator[HostHarness]:
    harness = HostHarness("tests.integration.process.host_handlers")
    harness.start()
    yield harness
    harness.close()


@pytest.fixture
def worker(harness: HostHarness) -> HostHarness:
    return harness.ready()


def run(harness: HostHarness, task_type: str, payload: Any = None) -> tuple[Any, str]:
    """Its result, and all that it wrote, by whatever way."""
    verdict, outcome = harness.run(task_type, payload)
    assert verdict == b"C", outcome["error"]
    harness.run("echo", 1)  # what goes round Python has been read by now
    told = [orjson.loads(event.row)["text"] for event in harness.all_of(Logged)]
    return outcome["result"], "".join(told + [event.text for event in harness.all_of(Spilled)])


def test_a_copy_writes_nothing_into_files_of_its_own_and_prints_like_any_program(worker: HostHarness) -> None:
    result, output = run(worker, "fork_and", "return")
    assert result == {"code": 0, "texts": ["data\n"] * 10}
    for words in ("printed by the copy", "bytes of the copy é", "logged by the copy", "warned by the copy"):
        assert output.count(words) == 1, output
    assert worker.all_of(Progressed) == []


@pytest.mark.parametrize(("way", "code", "words"), [
    ("raise", 1, "ValueError: from the copy"), ("exit", 3, "last words"), ("exit with text", 1, "no way")])
def test_a_copy_that_comes_back_ends_as_python_ends_a_program(
        worker: HostHarness, way: str, code: int, words: str) -> None:
    result, output = run(worker, "fork_and", way)
    assert result["code"] == code
    assert words in output
    assert "adapters/process" not in output


def test_log_handlers_of_the_users_are_kept_in_a_copy(worker: HostHarness, tmp_path: Path) -> None:
    run(worker, "fork_with_root_handler", str(tmp_path / "log"))
    assert (tmp_path / "log").read_text() == "from the copy\n"


def test_a_handler_that_closes_low_descriptors_hurts_nobody(worker: HostHarness, tmp_path: Path) -> None:
    run(worker, "close_and_open", {"upto": 256, "folder": str(tmp_path)})
    assert {path.read_text() for path in tmp_path.iterdir()} == {""}
    worker.end()


def test_a_handler_that_closes_the_workers_descriptors_gets_no_frames_and_its_worker_says_why(
        worker: HostHarness, tmp_path: Path) -> None:
    worker.send("close_and_open", {"upto": 4096, "folder": str(tmp_path)})
    assert worker.wait_for(Exited).exitcode == 71
    assert {path.read_text() for path in tmp_path.iterdir()} == {""}


def test_bytes_of_one_character_may_come_one_by_one_and_a_wrapper_may_be_dropped(worker: HostHarness) -> None:
    result, output = run(worker, "talk_bytes")
    assert output == "é€😀\nwrapped\nafter it\n\ufffd"
    assert result == {"mode": ["w", "wb"], "line_buffering": True, "write_through": False, "raw": True}


def test_a_logging_error_shows_only_the_users_frames(worker: HostHarness) -> None:
    _, output = run(worker, "log_badly")
    assert "--- Logging error ---" in output
    assert "in log_badly" in output
    assert "Arguments: ('no number',)" in output
    for frame in ("/adapters/process/", "<string>"):
        assert frame not in output
