"""What is told of imports that failed: short enough for a message, and why a first start does not go on."""

from typing import Any

import pytest

from engine.ports.host import ServerLost, ServerReady
from engine.services.pool import imports
from tests.unit.services.pool.pool_harness import PoolHarness


def test_a_long_traceback_keeps_its_beginning_and_its_end() -> None:
    told = imports.shortened({"tasks": "first line\n" + "x" * 300_000 + "\nlast line"})["tasks"]
    assert len(told) < imports.TEXT_CHARS_MAX + 100
    assert told.startswith("first line")
    assert told.endswith("last line")
    assert "characters left out" in told


def test_of_many_modules_the_last_line_is_told() -> None:
    told = imports.shortened({f"m{n}": f"traceback\nError: {n}" for n in range(imports.FAILURES_MAX + 5)})
    assert told["m0"] == "traceback\nError: 0"
    assert told[f"m{imports.FAILURES_MAX}"] == f"Error: {imports.FAILURES_MAX}"


@pytest.mark.parametrize(("failures", "handlers", "words"), [
    ({"tasks": "Trace\nError"}, [{"name": "t"}], "mend the module tasks, or"),
    ({"a": "E", "b": "E"}, [], "mend the modules a, b, or"), ({}, [], "--handlers MODULE"),
    ({}, [{"name": "t"}], None)])
def test_why_a_first_start_does_not_go_on(failures: dict[str, str], handlers: list[dict[str, Any]],
                                          words: str | None) -> None:
    problem = imports.problem(failures, handlers)
    assert problem is None if words is None else problem is not None and words in problem


class TestAPoolThatNeedsItsHandlers:
    @pytest.fixture
    def harness(self) -> PoolHarness:
        return PoolHarness(needs_handlers=True)

    def test_asks_the_root_and_starts_nothing(self, harness: PoolHarness) -> None:
        assert [told["is"] for told in harness.told] == ["refused"]
        assert harness.host.verbs("spawn") == []
        assert harness.broker.announced == []

    def test_does_with_what_there_is_once_the_root_says_so(self, harness: PoolHarness) -> None:
        harness.pool.go_on()
        harness.turn()
        assert len(harness.host.verbs("spawn")) == 2
        assert harness.broker.announced == [[{"name": "t"}]]

    def test_does_not_ask_again_when_its_fork_server_died(self, harness: PoolHarness) -> None:
        harness.pool.go_on()
        harness.turn()
        harness.host.happened = [ServerReady([], {"tasks": "it is gone"})]
        harness.turn()
        assert [told["is"] for told in harness.told] == ["refused"]
        assert harness.broker.announced[-1] == []

    def test_serves_what_the_new_fork_server_has_if_the_first_died_unanswered(self, harness: PoolHarness) -> None:
        harness.host.happened = [ServerLost("killed")]
        harness.pool.go_on()
        harness.turn()
        assert harness.broker.announced == []
        harness.host.happened = [ServerReady([{"name": "new"}], {"tasks": "it is gone"})]
        harness.turn()
        assert harness.broker.announced == [[{"name": "new"}]]

    def test_waits_for_the_answer_although_another_fork_server_is_there(self, harness: PoolHarness) -> None:
        harness.host.happened = [ServerLost("killed")]
        harness.turn()
        harness.host.happened = [ServerReady([{"name": "new"}], {"tasks": "it is gone"})]
        harness.turn()
        assert harness.broker.announced == []
        harness.pool.go_on()
        harness.turn()
        assert harness.broker.announced == [[{"name": "new"}]]
        assert [told["is"] for told in harness.told] == ["refused"]
