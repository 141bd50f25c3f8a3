"""What is told of imports that failed: short enough for a message, and why a first start does not go on."""

from typing import Any

import pytest

from engine.ports.host import ServerLost, ServerReady
from engine.services.pool import imports
from tests.unit.services.pool.pool_stage import Stage


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
    ({"tasks": "Trace\nError"}, [{"name": "t"}], "mend tasks"), ({}, [], "--handlers MODULE"),
    ({}, [{"name": "t"}], None)])
def test_why_a_first_start_does_not_go_on(failures: dict[str, str], handlers: list[dict[str, Any]],
                                          words: str | None) -> None:
    problem = imports.problem(failures, handlers)
    assert problem is None if words is None else problem is not None and words in problem


class TestAPoolThatNeedsItsHandlers:
    @pytest.fixture
    def stage(self) -> Stage:
        return Stage(needs_handlers=True)

    def test_asks_the_root_and_starts_nothing(self, stage: Stage) -> None:
        assert [told["is"] for told in stage.told] == ["refused"]
        assert stage.host.verbs("spawn") == []
        assert stage.broker.announced == []

    def test_does_with_what_there_is_once_the_root_says_so(self, stage: Stage) -> None:
        stage.pool.go_on()
        stage.turn()
        assert len(stage.host.verbs("spawn")) == 2
        assert stage.broker.announced == [[{"name": "t"}]]

    def test_does_not_ask_again_when_its_fork_server_died(self, stage: Stage) -> None:
        stage.pool.go_on()
        stage.turn()
        stage.host.happened = [ServerReady([], {"tasks": "it is gone"})]
        stage.turn()
        assert [told["is"] for told in stage.told] == ["refused"]
        assert stage.broker.announced[-1] == []

    def test_serves_what_the_new_fork_server_has_if_the_first_died_before_the_answer(self, stage: Stage) -> None:
        stage.host.happened = [ServerLost("killed")]
        stage.pool.go_on()
        stage.turn()
        assert stage.broker.announced == []
        stage.host.happened = [ServerReady([{"name": "new"}], {"tasks": "it is gone"})]
        stage.turn()
        assert stage.broker.announced == [[{"name": "new"}]]

    def test_waits_for_the_answer_although_another_fork_server_is_there(self, stage: Stage) -> None:
        stage.host.happened = [ServerLost("killed")]
        stage.turn()
        stage.host.happened = [ServerReady([{"name": "new"}], {"tasks": "it is gone"})]
        stage.turn()
        assert stage.broker.announced == []
        stage.pool.go_on()
        stage.turn()
        assert stage.broker.announced == [[{"name": "new"}]]
        assert [told["is"] for told in stage.told] == ["refused"]
