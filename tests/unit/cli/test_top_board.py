"""What the keys of `ganger top` do, and that its screen fits into any size."""

import codecs
from typing import Any

import pytest

from engine.cli.live import gauges
from engine.cli.live.board import Action, Board
from engine.cli.live.keyboard import named
from engine.cli.live.screen import draw
from engine.cli.snapshot import Snapshot
from engine.cli.streams import nearest
from engine.client.models import QueueStats

NEAREST = "tests.nearest"
codecs.register_error(NEAREST, nearest)
TASK = {"id": "01H5RC2K8D7QZ3V0M4T", "task_type": "thumb\x1b[2Jnail", "run": 1, "priority": "LOW", "running_s": 61.0,
        "stood_s": 3.0, "timeout_s": 60.0}


def snapshot(workers: int = 2, queues: int = 2, **options: Any) -> Snapshot:
    slots = [{"slot": slot, "pid": 100 + slot, "state": "idle", "served": 3, "restarts": 0, "task": None,
              "cpu_percent": 50.0, "rss_bytes": 1000} for slot in range(workers)]
    if slots:
        slots[0] |= {"state": "frozen", "frozen": True, "task": TASK}
    here = {"host": "h", "root_pid": 1}
    processes = [{**here, "pid": 1, "ppid": 0, "title": "ganger: root", "cpu_percent": None, "rss_bytes": None},
                 {**here, "pid": 2, "ppid": 1, "title": "ganger: keeper", "cpu_percent": 1.0, "rss_bytes": 10},
                 {**here, "pid": 900, "ppid": 101, "title": "sleep 9", "cpu_percent": 70.0, "rss_bytes": 500}]
    report = {"supervisor": "h.default.a", "pool": "default", "host": "h", "pid": 3, "root_pid": 1, "alive": True,
              "at_ms": 9_000, "slots": slots}
    stats = [QueueStats(queue=f"q{n}", paused=n == 1, queued={"LOW": n, "URGENT": 9}, oldest_s_by_priority={"LOW": 5.0})
             for n in range(queues)]
    return Snapshot(10_000, stats, [report], processes, {"QUEUED": 3}, {"submitted": 10}, **options)


def shown(board: Board, columns: int, lines: int, **options: Any) -> list[str]:
    return [text.plain for text in draw(board, columns, lines, 0.0, **options).renderables]


def test_a_cancel_is_asked_for_and_names_the_task_that_was_seen() -> None:
    board = Board(snapshot())
    assert board.press("c") is None
    assert board.question is not None
    board.saw(snapshot(workers=0))
    assert board.press("y") == Action("cancel", TASK["id"]), "not what runs there by now"
    board = Board(snapshot())
    board.press("c")
    assert board.press("x") is None
    assert (board.question, board.note) == (None, "nothing was done")
    board.press("down")
    assert board.press("c") is None
    assert board.question is None, "an idle worker has nothing to cancel"


def test_selecting_stays_within_what_there_is() -> None:
    board = Board(snapshot(workers=3))
    seen = []
    for key in ("up", "down", "down", "down"):
        board.press(key)
        seen.append(board.worker)
    assert seen == [f"h.default.a/{slot}" for slot in (0, 1, 2, 2)]
    assert board.press("s") == Action("stack", "h.default.a/2")
    board.saw(snapshot(workers=1))
    assert board.worker == "h.default.a/0"
    board.saw(snapshot(workers=0, queues=0))
    assert (board.worker, board.queue, board.selected) == (None, None, None)
    assert [board.press(key) for key in ("c", "s", "p", "up", "tab")] == [None] * 5


def test_queues_are_chosen_in_a_ring_and_paused_or_resumed() -> None:
    board = Board(snapshot())
    assert board.press("p") == Action("pause", "q0")
    board.press("tab")
    assert board.press("p") == Action("resume", "q1")
    board.press("tab")
    board.press("backtab")
    assert board.queue == "q1"


def test_a_page_is_scrolled_and_left_by_any_other_key() -> None:
    board = Board(snapshot())
    board.show("stacks", "\n".join(map(str, range(50))))
    for key in ("down", " ", "up"):
        assert board.press(key) is None
    assert shown(board, 80, 24)[2:4] == ["10", "11"]
    board.press("x")
    assert board.page is None
    assert board.press("quit") == Action("quit")


def test_an_outage_keeps_what_was_seen_and_says_since_when() -> None:
    board = Board(snapshot())
    board.missed("connection refused", 100.0)
    board.missed("connection refused", 107.0)
    lines = [text.plain for text in draw(board, 80, 24, 110.0).renderables]
    assert "Redis has been away for 10 s: connection refused" in lines
    assert any("worker 0" in line for line in lines)
    board.saw(snapshot())
    assert (board.trouble, board.before) == ("", None), "no rates over a gap"


@pytest.mark.parametrize("columns", [20, 80, 120, 300])
@pytest.mark.parametrize("lines", [5, 24, 40])
@pytest.mark.parametrize("workers", [0, 2, 64])
def test_it_fits_and_what_is_selected_can_be_seen(columns: int, lines: int, workers: int) -> None:
    board = Board(snapshot(workers, queues=30))
    for _ in range(40):
        board.press("down")
    found = shown(board, columns, lines)
    assert len(found) == lines
    assert all(len(line) <= columns for line in found)
    assert all(character.isprintable() for line in found for character in line)
    if lines >= 24 and workers:
        assert any(f"▶ │ ├ worker {min(40, workers - 1)} " in line or f"▶ │ └ worker {workers - 1}" in line
                   for line in found)


def test_a_frozen_run_is_marked_and_what_a_worker_started_counts_with_it() -> None:
    lines = shown(Board(snapshot()), 160, 30)
    first = next(line for line in lines if "worker 0" in line)
    assert "FROZEN thumb\\x1b[2Jnail 3v0m4t  1m01s / 1m" in first, "its clock stands, and nothing steers the terminal"
    second = next(line for line in lines if "worker 1" in line)
    assert "+1" in second
    assert "120 %" in second
    assert any("stood still 4 s" in line for line in lines)
    with_ascii = [(line.encode("ascii", NEAREST), line) for line in lines]
    assert all(len(plain) == len(line) and b"\\" not in plain.replace(b"\\x1b", b"") for plain, line in with_ascii)


def test_where_there_is_little_room_a_name_makes_way_for_the_times() -> None:
    first = next(line for line in shown(Board(snapshot()), 80, 30) if "worker 0" in line)
    assert first.endswith("FROZEN thumb\\x1b[2Jna…  1m01s / 1m")
    assert len(first) == 80


def test_bars_and_numbers_in_few_characters() -> None:
    assert [gauges.bar(share, 4) for share in (-1, 0, 0.5, 0.53125, 1, 9)] == [
        "    ", "    ", "██  ", "██▏ ", "████", "████"]
    assert [gauges.brief(seconds) for seconds in (0.44, 9.94, 9.96, 60, 200, 18_420, 86_400, 277_200)] == [
        "0.4s", "9.9s", "10s", "1m", "3m20s", "5h07m", "1d", "3d05h"]
    assert [gauges.brief_size(size) for size in (None, 0, 512, 3_355_443, 12 << 30, 5 << 40)] == [
        "", "0B", "512B", "3.2M", "12G", "5.0T"]
    assert gauges.sparkline([0, None, 50, 100]) == "▁ ▅█"
    assert gauges.sparkline([50], 100) == "▅"


def test_keys_have_names() -> None:
    assert named(b"\x1b[A\x1bOBjq\t\x1b[Z?y") == ["up", "down", "down", "quit", "tab", "backtab", "?", "y"]
    assert named(b"\x1b") == ["escape"]


@pytest.mark.parametrize("columns", [40, 60, 79])
def test_on_a_narrow_terminal_every_priority_is_there_and_nothing_is_cut_off_unsaid(columns: int) -> None:
    lines = shown(Board(snapshot()), columns, 24)
    heading = next(line for line in lines if "queue" in line and "URGENT" in line)
    assert heading.split() == ["queue", *(["state"] if "state" in heading else []), "URGENT", "HIGH", "NORMAL", "LOW"]
    row = next(line for line in lines if "q1" in line)
    assert "9" in row
    assert row.rstrip().endswith("1" if columns == 40 else "1 5.0s"), "the count of LOW, and how long it has waited"
    assert "? help" in lines[-1]


def test_a_stack_is_readable_and_can_be_moved_sideways() -> None:
    board = Board(snapshot())
    folder = "/srv/a_very_long_folder/of_some_project/with_many_parts"
    frame = f'  File "{folder}/app/tasks.py", line 9 in render'
    board.show("Where h.default.a/0 is", f"Current thread (most recent call first):\n{frame}")
    lines = [line.rstrip() for line in shown(board, 60, 24)]
    assert lines[3].startswith("  app/tasks.py:9  in render  /srv/a_very")
    assert "←→ scroll" in lines[-1]
    for _ in range(2):
        assert board.press("right") is None
    assert [line.rstrip() for line in shown(board, 60, 24)][3].startswith(frame[40:-len(" in render")])
    for _ in range(9):
        board.press("left")
    assert board.page is not None
    assert board.page.left == 0
    assert [line.rstrip() for line in shown(board, 60, 24)][3] == lines[3]
    assert named(b"\x1b[C\x1bOD") == ["right", "left"]
