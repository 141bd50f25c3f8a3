"""Structured logs: one line, whatever is in it; JSON for machines, text for people."""

import io
import json
import logging

import pytest

from engine import logs


@pytest.fixture
def output():
    root = logging.getLogger("ganger")
    before = root.handlers[:], root.propagate, root.level
    yield io.StringIO()
    root.handlers[:], root.propagate = before[0], before[1]
    root.setLevel(before[2])


def test_a_stream_that_is_no_terminal_gets_json(output):
    logs.set_up(stream=output, process="pool default")
    logs.execution.info("run ended", extra={"task_id": "0A", "run": 2, "wall_s": 0.25, "worker": None})
    row = json.loads(output.getvalue())
    assert row.pop("at").endswith("Z")
    assert row.pop("pid") > 0
    assert row == {"level": "INFO", "logger": "ganger.execution", "process": "pool default", "message": "run ended",
                   "task_id": "0A", "run": 2, "wall_s": 0.25}


def test_a_terminal_gets_text(output):
    output.isatty = lambda: True
    logs.set_up(stream=output, process="keeper")
    logs.errors.error("lease lost", extra={"task_id": "0A", "wall_s": 1.23456789})
    text = output.getvalue()
    assert "keeper" in text
    assert "lease lost  task_id=0A  wall_s=1.235" in text


def test_a_message_cannot_forge_a_line_or_steer_the_terminal(output):
    logs.set_up(form="text", stream=output)
    logs.execution.info("name\nINFO forged \x1b[2J", extra={"cause": "a\nb"})
    assert output.getvalue().count("\n") == 1
    assert "\x1b" not in output.getvalue()


@pytest.mark.parametrize("value", [object(), {1: {2}}, 1 << 80, "\ud800", float("nan")])
def test_a_fact_that_json_cannot_take_is_logged_all_the_same(output, value):
    logs.set_up(form="json", stream=output)
    logs.execution.info("odd", extra={"fact": value})
    assert "odd" in json.loads(output.getvalue())["message"]


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_traceback_is_kept_with_the_line(output, form):
    logs.set_up(form=form, stream=output)
    try:
        raise ValueError("broken")
    except ValueError:
        logs.errors.exception("it failed")
    assert "ValueError: broken" in output.getvalue()


def test_the_level_can_be_changed_while_running(output):
    logs.set_up("WARNING", stream=output)
    logs.execution.info("quiet")
    logs.set_level("DEBUG")
    logs.performance.debug("loud")
    assert [json.loads(line)["message"] for line in output.getvalue().splitlines()] == ["loud"]


def test_a_line_that_cannot_be_written_is_dropped(output):
    logs.set_up(stream=output)
    output.close()
    logs.execution.info("nobody reads this")


def test_facts_of_several_lines_stand_below_the_line_and_are_clean(output):
    logs.set_up(form="text", stream=output, process="pool default")
    failures = {"my_tasks": "Traceback (most recent call last):\n  File \"a\", line 1\nSyntaxError: \x9b2J\u202e\n"}
    logs.errors.error("not reloaded", extra={"failures": failures, "child": "pool default"})
    lines = output.getvalue().splitlines()
    assert lines[0].endswith('not reloaded  child="pool default"')
    assert lines[1:] == ["    failures my_tasks:", "      Traceback (most recent call last):",
                         '        File "a", line 1', "      SyntaxError: \\x9b2J\\u202e"]


def test_the_traceback_of_an_error_cannot_steer_the_terminal(output):
    logs.set_up(form="text", stream=output)
    try:
        raise ValueError("broken \x9b2J\u202e\x1b[2J")
    except ValueError:
        logs.errors.exception("it failed")
    assert not {"\x9b", "\u202e", "\x1b"} & set(output.getvalue())


def test_without_a_stream_nothing_is_written_and_nothing_fails(output, monkeypatch):
    monkeypatch.setattr("sys.stderr", None)  # as Python has it where the descriptor is closed
    logs.set_up(process="root")
    logs.execution.info("nobody reads this")
