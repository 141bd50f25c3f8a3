"""What odd exceptions, groups of them and pauses mean; and interrupts that arrive while an event loop runs."""

import importlib.util
from collections.abc import Iterator

import pytest

from tests.integration.process.host_harness import HostHarness


@pytest.fixture(scope="module")
def harness() -> Iterator[HostHarness]:
    harness = HostHarness("tests.integration.process.odd_handlers")
    harness.start()
    yield harness
    harness.close()


@pytest.fixture
def worker(harness: HostHarness) -> HostHarness:
    return harness.ready()


@pytest.mark.parametrize(("what", "verdict", "kind", "words"), [
    ("claims", b"E", "ClaimsToBeAnother", "odd"),
    ("refuses", b"E", "RefusesToBeAsked", "odd"),
    ("exit 0", b"F", "SystemExit", "a code for success"),
    ("exit None", b"F", "SystemExit", "a code for success"),
    ("exit 3", b"E", "SystemExit", "3"),
    ("group of cancel", b"X", "Cancel", "enough"),
    ("group of retry", b"A", "Retry", "again"),
    ("group of soft", b"S", "SoftTimeout", "over"),
    ("group of no retry", b"F", "ExceptionGroup", "one"),
    ("group", b"E", "ExceptionGroup", "one"),
])
def test_what_is_raised_is_recognised(worker: HostHarness, what: str, verdict: bytes, kind: str, words: str) -> None:
    pid = worker.host.pid(0)
    got, outcome = worker.run("raise", what)
    assert (got, outcome["error"]["kind"]) == (verdict, kind)
    assert words in outcome["error"]["message"]
    assert "raise_" in outcome["error"]["traceback"]
    assert worker.host.pid(0) == pid


@pytest.mark.parametrize(("what", "seconds"), [("after 2", 2.0), ("after timedelta", 120.0), ("group of retry", 5.0)])
def test_a_pause_is_seconds_or_a_timedelta(worker: HostHarness, what: str, seconds: float) -> None:
    verdict, outcome = worker.run("raise", what)
    assert (verdict, outcome["retry_after"]) == (b"A", seconds)


@pytest.mark.parametrize("what", ["after text", "after number as text", "after inf", "after nan", "after huge",
                                  "after negative", "after object"])
def test_anything_else_is_no_pause_and_said_to_be_none(worker: HostHarness, what: str) -> None:
    verdict, outcome = worker.run("raise", what)
    assert (verdict, outcome["error"]["kind"]) == (b"F", "InvalidOption")
    assert "has to be seconds from 0 to 3,155,760,000, or a timedelta" in outcome["error"]["message"]
    assert "retry_after" not in outcome


@pytest.mark.parametrize("where", ["idle", "callback", "background task", "group"])
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_soft_timeout_leaves_an_event_loop_wherever_it_hits_it(worker: HostHarness, where: str, loop: str) -> None:
    if importlib.util.find_spec(loop) is None:
        pytest.skip(f"no {loop} here")
    token, _ = worker.begin("loop", {"where": where, "loop": loop})
    worker.host.interrupt(0, token, b"S")
    verdict, outcome = worker.reply(token)
    assert (verdict, outcome["error"]["kind"]) == (b"S", "SoftTimeout"), outcome["error"]
    assert outcome["wall_s"] < 20


@pytest.mark.parametrize(("handler", "result"), [
    ("loop_cleanup", "cleaned up"), ("soft_in_except_star", "SoftTimeout")])
def test_a_handler_may_catch_it_in_a_coroutine_or_in_a_group(worker: HostHarness, handler: str, result: str) -> None:
    token, _ = worker.begin(handler)
    worker.host.interrupt(0, token, b"S")
    assert worker.reply(token)[1]["result"] == result
