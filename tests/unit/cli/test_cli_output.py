"""How the command says numbers, times and values, and how its tables fit."""

import io
import json

import pytest
from rich.console import Console

from engine.cli import tables
from engine.cli.commands.doctor import _wrapped
from engine.cli.commands.task import _words
from engine.cli.output import clean, counted, document, duration, one_line, styled


@pytest.mark.parametrize(("seconds", "words"), [
    (None, ""), (0, "0 ms"), (0.0123, "12.3 ms"), (0.9999, "1 s"), (2.11, "2.11 s"), (57.31, "57.3 s"),
    (99.9, "99.9 s"), (120, "2 min"), (126.6, "2 min 7 s"), (3599.9, "1 h"), (7500, "2 h 5 min"), (90_000, "1 d 1 h"),
    (864_000, "10 d"),
])
def test_a_time_has_two_units_at_most(seconds: float | None, words: str) -> None:
    assert duration(seconds) == words


def test_one_is_not_many() -> None:
    assert [counted(count, "pool") for count in (0, 1, 2)] == ["0 pools", "1 pool", "2 pools"]


def test_what_steers_a_terminal_becomes_an_escape() -> None:
    assert clean("a\x1b[2J\x9b\u202e\U000e0001\n\tü 😀") == "a\\x1b[2J\\x9b\\u202e\\U000e0001\n\tü 😀"
    assert one_line("a\n\tb\r") == "a\\n\\tb\\x0d"


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "ascii"])
@pytest.mark.parametrize("value", ["\x9b\u202e\x7f\x1b", "ü", "😀", "\U000e0001", "\ud800", 1 << 80, {"→": ["\u2028"]}])
def test_a_document_is_the_same_value_in_characters_that_are_safe(value: object, encoding: str) -> None:
    text = document(value, encoding)
    assert json.loads(text) == value
    assert text.isprintable()
    text.encode(encoding)


def test_facts_of_a_post_mortem_are_words() -> None:
    facts = {"state": "sleeping", "threads": 1, "user_s": 0.25, "rss_bytes": 14_876_672, "wchan": None}
    assert _words("proc", facts) == "state sleeping, threads 1, user 250 ms, rss 14.2 MiB"
    assert _words("why", "timeout") == "timeout"


HEADINGS = ("id", "pool", "host", "memory", "error")
ROWS = [["01H5RC2K8D7QZ3V0M4T", "default", "a-host-with-a-name", "14.4 MiB", "ValueError: it was not to be"]]


@pytest.mark.parametrize(("room", "shown", "left_out"), [
    (None, "id pool host memory error", ""),
    (120, "id pool host memory error", ""),
    (80, "id pool host memory error", ""),
    (60, "id pool memory error", "host"),
    (40, "id pool error", "host memory"),
    (32, "id error", "host memory pool"),
])
def test_a_table_has_whole_columns_or_leaves_them_out_and_says_so(room: int | None, shown: str, left_out: str) -> None:
    cells = [[styled(cell) for cell in row] for row in ROWS]
    shape = tables.fit(HEADINGS, cells, room, cut=("error",), leave_out=("host", "memory", "pool"))
    assert " ".join(HEADINGS[at] for at in shape.widths) == shown
    assert " ".join(shape.left_out) == left_out
    console = Console(file=io.StringIO(), width=room or 4096)
    console.print(tables.drawn(HEADINGS, cells, shape, ()))
    assert isinstance(console.file, io.StringIO)
    printed = console.file.getvalue().splitlines()
    assert len(printed) == 2, "no cell is folded"
    assert printed[1].startswith(ROWS[0][0]), "an id is whole, so that it can be copied"
    assert printed[1].rstrip().endswith("not to be" if room in (None, 120) else "…")


def test_a_column_that_is_narrow_comes_back_where_a_wide_one_made_room() -> None:
    cells = [[styled(cell) for cell in ("a", "b" * 5, "c" * 50, "d" * 20)]]
    shape = tables.fit(("id", "small", "wide", "kept"), cells, 40, cut=(), leave_out=("small", "wide"))
    assert shape.left_out == ["wide"]


def test_what_the_doctor_finds_stands_beside_its_name_on_a_terminal_and_on_one_line_elsewhere() -> None:
    text = "limits are held by sampling; kills by the kernel for want of memory are known from the kernel's log"
    assert all(len(line) <= 59 for line in _wrapped(text, 80))
    assert " ".join(_wrapped(text, 80)) == text
    assert _wrapped(text, None) == [text]
    assert _wrapped("", 80) == [""]
