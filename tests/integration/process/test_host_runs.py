"""What a worker makes of a task: verdicts, outcomes, facts, output. Real processes, no Redis."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import psutil
import pytest

from engine.ports.host import Logged, Progressed, Spilled
from tests.integration.process.host_harness import HostHarness

HANDLERS = "tests.integration.process.host_handlers"


@pytest.fixture(scope="module")
def harness() -> Iterator[HostHarness]:
    """One fork server for all tests of this file; a worker that a test has ended is replaced."""
    harness = HostHarness(HANDLERS, threads=3, log_bytes_max=20_000)
    harness.start()
    yield harness
    harness.close()


@pytest.fixture
def worker(harness: HostHarness) -> HostHarness:
    return harness.ready()


def test_a_result_comes_back_with_what_the_run_used(worker: HostHarness) -> None:
    verdict, outcome = worker.run("echo", {"a": [1, None, "ü"]})
    assert verdict == b"C"
    assert outcome["result"] == {"a": [1, None, "ü"]}
    assert (outcome["cause"], outcome["run"], "error" in outcome) == ("returned", 1, False)
    assert outcome["worker"] == "test/0"
    assert outcome["pid"] == worker.host.pid(0)
    assert outcome["peak_rss_bytes"] > 5_000_000
    assert outcome["ended_ms"] >= outcome["started_ms"] > 0
    assert 0 <= outcome["cpu_s"] < 0.1


@pytest.mark.parametrize(("how", "verdict", "cause", "kind", "words"), [
    ("raise", b"E", "raised", "ValueError", "wrong ? value"),
    ("no_retry", b"F", "raised", "KeyError", "'x'"),
    ("retry", b"A", "retry_asked", "Retry", "another run"),
    ("cancel", b"X", "cancelled", "Cancel", "enough"),
    ("sys.exit", b"E", "raised", "SystemExit", "3"),
    ("interrupt", b"E", "raised", "KeyboardInterrupt", ""),
    ("grumpy", b"E", "raised", "Grumpy", "its __str__ raised RuntimeError"),
    ("unpicklable", b"E", "raised", "Unpicklable", "cannot be pickled"),
    ("recurse", b"E", "raised", "RecursionError", "maximum recursion depth"),
    ("set", b"F", "invalid_result", "InvalidResult", "not JSON, of type set"),
    ("deep", b"F", "invalid_result", "InvalidResult", "not JSON, of type list"),
    ("nan", b"F", "invalid_result", "InvalidResult", "of type dict: the result.rates[1] is nan"),
    ("large", b"F", "invalid_result", "InvalidResult", "100,000,002 bytes as JSON, over the limit of 1,048,576"),
])
def test_every_way_to_fail_has_its_verdict(worker: HostHarness, how: str, verdict: bytes, cause: str, kind: str,
                                           words: str) -> None:
    got, outcome = worker.run("misbehave", how)
    assert (got, outcome["cause"], outcome["error"]["kind"]) == (verdict, cause, kind)
    assert words in outcome["error"]["message"]
    assert outcome.get("result") is None
    assert ("retry_after" in outcome) is (how == "retry")
    if cause != "invalid_result":
        trace = outcome["error"]["traceback"]
        assert "misbehave" in trace
        assert "adapters" not in trace
    assert worker.run("echo", 1)[1]["result"] == 1


def test_what_a_handler_cannot_get(worker: HostHarness) -> None:
    assert worker.run("typed", {"amount": "21"})[1]["result"] == 42
    verdict, outcome = worker.run("typed", {"amount": "many"})
    assert (verdict, outcome["cause"], outcome["error"]["kind"]) == (b"F", "invalid_payload", "InvalidPayload")
    assert "payload.amount" in outcome["error"]["message"]
    assert worker.run("nobody", 1)[0] == b"U"
    verdict, outcome = worker.run("echo", "x" * 2_000_000)
    assert (verdict, outcome["cause"]) == (b"F", "invalid_payload")
    assert "2,000,002 bytes, over the limit of 1,048,576" in outcome["error"]["message"]


def test_payloads_and_results_of_a_mebibyte_pass(worker: HostHarness) -> None:
    for size in (4_000, 4_096, 60_000, 1_048_574):
        assert worker.run("echo", "x" * size)[1]["result"] == "x" * size


def test_a_handler_with_a_quote_in_its_name_is_found(worker: HostHarness) -> None:
    assert worker.run('quo"ted')[1]["result"] == "found"


def test_a_context_knows_its_run(worker: HostHarness) -> None:
    outcome = worker.run("facts", None, name="cover", timeout=7)[1]
    assert outcome["result"] == {"task_id": "0123456789ABCDEFGHJ", "type": "facts", "name": "cover", "run": 1,
                                 "attempt": 1, "has_time": True}
    assert worker.run("facts")[1]["result"]["has_time"] is False


def test_a_copy_of_the_worker_neither_replies_nor_lives_on(worker: HostHarness) -> None:
    assert worker.run("fork_and_return")[1]["result"] == "from the original"
    assert worker.run("echo", 2)[1]["result"] == 2


def test_forks_of_a_handler_keep_what_they_open(worker: HostHarness) -> None:
    assert worker.run("fork_twice")[1]["result"] == 0


def test_what_was_printed_at_import_is_not_printed_by_each_worker(worker: HostHarness) -> None:
    worker.run("talk_raw")
    assert not any("said at import" in event.text for event in worker.all_of(Spilled))


def test_what_a_worker_is(worker: HostHarness) -> None:
    result = worker.run("environment")[1]["result"]
    assert result == {"omp": "3", "session": True, "argv0": "ganger: worker 0 environment 0123456789ABCDEFGHJ"}
    loaded = set(worker.run("modules")[1]["result"])
    assert not loaded & {"redis", "psutil", "typer", "rich", "hiredis", "asyncio"}


def test_the_title_of_a_worker_is_of_the_task_that_it_runs_and_of_none_when_it_has_ended(worker: HostHarness) -> None:
    titles = []
    for task_type, payload in (("environment", None), ("misbehave", "ValueError")):
        worker.run(task_type, payload)
        titles.append(psutil.Process(worker.host.pid(0)).cmdline()[0].rstrip())
    assert titles == ["ganger: worker 0"] * 2


def test_a_worker_holds_only_its_own_descriptors(worker: HostHarness) -> None:
    worker.up(1)
    one, other = (worker.run("descriptors", slot=slot)[1]["result"] for slot in (0, 1))
    assert {name for name in one if ":[" in name} & {name for name in other if ":[" in name} == set()
    assert len(one) <= 10, one
    worker.end(1)


# -- output -----------------------------------------------------------------------------------------------------------


def rows(harness: HostHarness, token: int) -> list[dict[str, Any]]:
    return [orjson.loads(event.row) for event in harness.all_of(Logged) if event.token == token]


def test_what_is_printed_and_logged_becomes_rows(worker: HostHarness) -> None:
    token = worker.send("talk")
    worker.reply(token)
    found = rows(worker, token)
    assert [(row["stream"], row["level"], row["text"]) for row in found] == [
        ("stdout", None, "to stdout\n"), ("stderr", None, "to stderr\n"), ("log", "INFO", "an info"),
        ("log", "WARNING", "a warning"), ("stdout", None, "bytes ü\n"), ("stdout", None, "no newline")]
    assert {row["run"] for row in found} == {1}


def test_output_that_bypasses_python_arrives_before_the_reply(worker: HostHarness) -> None:
    worker.run("talk_raw")
    assert "".join(event.text for event in worker.all_of(Spilled)) == "from a child ü\n"
    worker.run("talk_in_copy")
    worker.wait_for(Spilled, lambda event: event.text == "from the copy\n")


def test_a_flood_is_cut_and_counted(worker: HostHarness) -> None:
    token = worker.send("flood", 10_000_000)
    outcome = worker.reply(token)[1]
    kept = sum(len(row["text"]) for row in rows(worker, token))
    assert 10_000 < kept <= 20_000
    assert outcome["logs_dropped_bytes"] == 10_000_000 // 1024 * 1024 - kept
    token = worker.send("talk")
    worker.reply(token)
    assert len(rows(worker, token)) == 6


def test_many_small_lines_are_few_rows(worker: HostHarness) -> None:
    token = worker.send("flood_lines", 100_000)
    worker.reply(token)
    assert len(rows(worker, token)) <= 20_000 // 64


def test_a_gigabyte_past_python_neither_stalls_nor_is_kept(worker: HostHarness) -> None:
    worker.run("flood_raw", 1 << 30)
    worker.send("talk_raw")
    worker.wait_for(Spilled, lambda event: event.text.endswith("from a child ü\n"))
    spilled = [event for event in worker.all_of(Spilled) if event.text or event.dropped_bytes]
    assert sum(len(event.text) for event in spilled) <= 20_000 + 65_536


def test_progress_is_thinned_out(worker: HostHarness) -> None:
    worker.begin("chatter")
    worker.wait_for(Progressed)
    worker.end()
    assert len(worker.all_of(Progressed)) < 100


# -- what a run used --------------------------------------------------------------------------------------------------


def test_cpu_time_counts_the_run_and_its_children(worker: HostHarness) -> None:
    assert 0.03 <= worker.run("burn", 0.03)[1]["cpu_s"] < 0.06
    for _ in range(100):
        worker.run("noop")
    assert 0.03 <= worker.run("burn", 0.03)[1]["cpu_s"] < 0.06
    assert 0.03 <= worker.run("child_burns", 0.03)[1]["cpu_s"] < 0.07
    assert worker.run("burn", 0.002)[1]["cpu_s"] < 0.02


def test_the_peak_of_one_run_is_not_that_of_the_next(worker: HostHarness) -> None:
    before = worker.run("allocate", 1_000_000)[1]["peak_rss_bytes"]
    high = worker.run("allocate", 200_000_000)[1]["peak_rss_bytes"]
    after = worker.run("burn", 0.002)[1]["peak_rss_bytes"]
    assert high > before + 190_000_000
    assert after < before + 40_000_000


def test_a_module_that_fails_is_reported_and_the_others_serve(tmp_path: Path) -> None:
    (tmp_path / "broken_handlers.py").write_text("import sys\nsys.exit('no licence')\n")
    sys_path = (str(tmp_path), *orjson.loads(_sys_path()))
    harness = HostHarness(HANDLERS, "broken_handlers", "no_such_module", sys_path=sys_path)
    ready = harness.start()
    try:
        assert "noop" in {announced["name"] for announced in ready.handlers}
        assert set(ready.failures) == {"broken_handlers", "no_such_module"}
        assert "no licence" in ready.failures["broken_handlers"]
        assert "ModuleNotFoundError" in ready.failures["no_such_module"]
        harness.up()
        assert harness.run("echo", 1)[1]["result"] == 1
    finally:
        harness.close()


def test_a_module_that_uses_the_engine_while_it_is_imported_is_reported(tmp_path: Path) -> None:
    (tmp_path / "eager_handlers.py").write_text(
        "from engine import Client, handler\n"
        "@handler('early')\n"
        "def early(payload): return 1\n"
        "Client('unix:///nowhere').submit('early')\n"
        "@handler('late')\n"
        "def late(payload): return 1\n")
    harness = HostHarness("eager_handlers", sys_path=(str(tmp_path), *orjson.loads(_sys_path())))
    try:
        ready = harness.start()
        assert set(ready.failures) == {"eager_handlers"}
        told = ready.failures["eager_handlers"]
        assert "submit('early')" in told, "where it does so"
        assert "may not use a Client" in told.splitlines()[-1]
        assert "no error" not in told
    finally:
        harness.close()


def test_a_main_script_is_run_up_to_its_start(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("from engine.tasks.import_guard import MainCollected, collecting\n"
                      "def double(payload): return payload * 2\n"
                      "assert collecting()\n"
                      "from engine import Scheduler\n"
                      "Scheduler().start()\n")
    harness = HostHarness(main={"path": str(script)}, functions={"double": "__main__:double"})
    try:
        ready = harness.start()
        assert ready.failures == {}
        assert [announced["name"] for announced in ready.handlers] == ["double"]
        harness.up()
        assert harness.run("double", 4)[1]["result"] == 8
    finally:
        harness.close()


def _sys_path() -> bytes:
    import os
    import sys

    return orjson.dumps([path or os.getcwd() for path in sys.path])
