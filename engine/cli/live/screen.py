"""Draws a board into so many columns and lines, with nothing beyond. It works at 80x24, and uses more."""

import re
import time
from typing import TYPE_CHECKING, Any

from engine.cli.live import gauges
from engine.cli.live.board import Board
from engine.cli.live.processes import Row
from engine.cli.output import STYLES, clean, duration, one_line, size
from engine.core.task.lifecycle import TaskStatus
from engine.core.task.priority import DESCENDING
from engine.core.task.task_id import short

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

KEYS = "↑↓ worker  c cancel  s stack  tab queue  p pause/resume  ? help  q quit"
KEYS_SHORT = "? help  q quit  ↑↓ worker  c s tab p"
NAME_MIN = 8  # columns of what a worker runs
WIDE = 100  # columns from which there is room for pids and states
NARROW = 80  # columns below which something has to go
CELL_WITHOUT_AGE = 7  # columns of a priority with room for its count alone
_QUEUES_SHARE = 4  # of the lines, one in so many may be queues
_FRAME = re.compile(
    r'(?P<indent> *)File "(?P<folder>.*?)(?P<file>[^/"]*/?[^/"]+)", line (?P<line>\d+) in (?P<function>.*)')
_STATES = {"frozen": "blue", "silent": "red", "draining": "yellow", "booting": "yellow", "dying": "red",
           "idle": "dim", "standby": "dim", "down": "red"}


def draw(board: Board, columns: int, lines: int, now_s: float) -> "RenderableType":
    """One screen. `now_s` is monotonic."""
    from rich.console import Group

    body = _page(board, columns, lines) if board.page is not None else overview(board, columns, lines, now_s)
    body = body[: lines - 1]
    body += [_text() for _ in range(lines - 1 - len(body))]
    body.append(_foot(board, columns))
    for text in body:
        text.truncate(columns, overflow="ellipsis")
    return Group(*body)


def overview(board: Board, columns: int, lines: int, now_s: float = 0.0) -> "list[Text]":
    head = [_statuses(board, columns), _counters(board)]
    if board.trouble:
        away_s = now_s - (board.away_s or now_s)
        head.append(_text(clean(f"Redis has been away for {duration(away_s)}: {board.trouble}".replace("\n", " ")),
                          "bold red"))
    head += [_text(), *_queues(board, columns, max(2, lines // _QUEUES_SHARE)), _text()]
    detail = _detail(board)
    room = max(2, lines - 1 - len(head) - len(detail))
    return [*head, *_processes(board, columns, room), *detail]


def _statuses(board: Board, columns: int) -> "Text":
    line, gap = _text(), "   " if columns >= NARROW else "  "
    if columns >= NARROW:
        line.append("ganger", "bold")
        line.append(time.strftime("  %H:%M:%S", time.localtime(board.snapshot.now_ms / 1000)), "dim")
    for status in (TaskStatus.QUEUED, TaskStatus.RUNNING, TaskStatus.RETRYING, TaskStatus.PENDING):
        line.append(f"{gap}{status.lower()} ", "dim").append(str(board.snapshot.statuses.get(status, 0)))
    frozen = sum(row.state == "frozen" for row in board.rows)
    if frozen:
        line.append(f"   {frozen} frozen", "blue")
    return line


def _counters(board: Board) -> "Text":
    """What has happened since the beginning, and how often a second since the look before."""
    snapshot, before, line = board.snapshot, board.before, _text()
    for name in ("submitted", *(str(status) for status in TaskStatus if status.is_final), "crashed", "rescued"):
        count = snapshot.counters.get(name, 0)
        elapsed_s = 0.0 if before is None else (snapshot.now_ms - before.now_ms) / 1000
        rate = (count - before.counters.get(name, 0)) / elapsed_s if before is not None and elapsed_s > 0 else 0
        if count or name in ("submitted", "COMPLETED", "FAILED"):
            line.append(f"{name.lower()} ", "dim").append(str(count))
            line.append(f" {rate:.0f}/s" if rate >= 1 else "", "green").append("  ")
    return line


def _queues(board: Board, columns: int, room: int) -> "list[Text]":
    """How many wait by priority, and for how long the first of them has."""
    name_width, state_width, cell = _queue_widths(columns)
    names = [priority.name for priority in DESCENDING]
    heading = f"  {'queue':<{name_width}}{'state' if state_width > 1 else '':<{state_width}}"
    found = [_text(heading + "".join(f"{name:>{cell}}" for name in names), "dim")]
    queues = board.snapshot.queues
    at = next((at for at, queue in enumerate(queues) if queue.queue == board.queue), 0)
    for queue in _around(queues, at, room - 1):
        is_selected = queue.queue == board.queue
        line = _text("▶ " if is_selected else "  ").append(_fit(queue.queue, name_width), "bold" if is_selected else "")
        state = ("paused" if queue.paused else "open") if state_width > 1 else "!" if queue.paused else ""
        line.append(f"{state:<{state_width}}", "yellow" if queue.paused else "dim")
        ages = (queue.model_extra or {}).get("oldest_s_by_priority") or {}
        for name in names:
            count = queue.queued.get(name, 0)
            age = f" {gauges.brief(ages[name])}" if count and name in ages and cell > CELL_WITHOUT_AGE else ""
            line.append(f"{f'{count}{age}' if count else '·':>{cell}}", STYLES.get(name, "") if count else "dim")
        found.append(line)
    return found


def _queue_widths(columns: int) -> tuple[int, int, int]:
    """Columns of the name, of the state (1: only a sign that it is paused) and of each priority."""
    if columns >= NARROW:
        return (22, 8, 14) if columns >= WIDE else (14, 8, 13)
    state = 8 if columns >= 70 else 1
    cell = min(12, max(CELL_WITHOUT_AGE, (columns - 12) // len(DESCENDING)))
    return max(6, columns - 2 - state - cell * len(DESCENDING)), state, cell


def _processes(board: Board, columns: int, room: int) -> "list[Text]":
    if not board.rows:
        return [_text("no pool is running; start one: ganger run --handlers MODULE", "yellow")]
    heading = f"  {'process':<{_name_width(columns)}}"
    heading += f"{'pid':>8} {'state':<9}" if columns >= WIDE else ""
    width = _bar_width(columns)
    found = [_text(f"{heading}{'CPU':<{width + 7}}{'memory':<{width + 9}}task, running for / of", "dim")]
    largest = max((row.rss_bytes or 0 for row in board.rows), default=0)
    at = next((at for at, row in enumerate(board.rows) if row.worker is not None and row.worker == board.worker), 0)
    return found + [_process(row, board, columns, largest) for row in _around(board.rows, at, room - 1)]


def _process(row: Row, board: Board, columns: int, largest: int) -> "Text":
    is_selected = row.worker is not None and row.worker == board.worker
    name = one_line(row.name) + (f" +{row.started}" if row.started else "")
    line = _text("▶ " if is_selected else "  ").append(_fit(name, _name_width(columns)), "bold" if is_selected else "")
    if columns >= WIDE:
        line.append(f"{row.pid or '':>8} ", "dim").append(f"{row.state:<9}", _STATES.get(row.state, ""))
    width = _bar_width(columns)
    line.append(gauges.bar((row.cpu_percent or 0) / 100, width), "red" if (row.cpu_percent or 0) > 100 else "cyan")
    line.append(f"{'' if row.cpu_percent is None else f'{row.cpu_percent:.0f} %':>6} ")
    line.append(gauges.bar((row.rss_bytes or 0) / largest if largest else 0.0, width), "magenta")
    line.append(f"{gauges.brief_size(row.rss_bytes):>7}  ")
    return line.append_text(_task(row, columns - line.cell_len)) if row.worker is not None else line.append(
        "" if row.state in ("", "up") else row.state, _STATES.get(row.state, ""))


def _task(row: Row, room: int) -> "Text":
    """What a worker runs, since when and until when at most. The name is cut where there is little room."""
    if not row.task:
        return _text(row.state, _STATES.get(row.state, ""))
    line, times = _text("FROZEN " if row.state == "frozen" else "", "bold blue"), _times(row)
    name = one_line(f"{row.task.get('task_type')} {short(str(row.task.get('id')))}")
    width = max(NAME_MIN, room - line.cell_len - times.cell_len)
    line.append(name if len(name) <= width else f"{name[: width - 1]}…", STYLES.get(str(row.task.get("priority")), ""))
    return line.append_text(times)


def _times(row: Row) -> "Text":
    running_s, timeout_s = row.task.get("running_s") or 0.0, row.task.get("timeout_s")
    line = _text(f"  {gauges.brief(running_s)}", "red" if timeout_s and running_s > timeout_s else "cyan")
    line.append(f" / {gauges.brief(timeout_s)}" if timeout_s else "", "dim")
    if row.slot.get("waiting"):
        line.append(f"  +{row.slot['waiting']} behind", "dim")
    return line


def _detail(board: Board) -> "list[Text]":
    """Two lines about the worker that is selected."""
    row = board.selected
    if row is None:
        return []
    slot, task = row.slot, row.task
    first = _text(one_line(f"{row.worker}  pid {row.pid or '-'}  {row.state}  {size(row.rss_bytes)}  threads "
                        f"{slot.get('threads') or '-'}  served {slot.get('served', 0)}  restarts "
                        f"{slot.get('restarts', 0)}"), "dim")
    if not task:
        return [_text(), first, _text("it runs nothing", "dim")]
    second = _text(one_line(f"{task.get('id')}  {task.get('task_type')}"), "cyan")
    second.append(f"  {task.get('priority')}  run {task.get('run')}  {duration(task.get('running_s'))}")
    second.append(f" of {duration(task['timeout_s'])}" if task.get("timeout_s") else " without a deadline")
    second.append(f"  stood still {duration(task['stood_s'])}" if task.get("stood_s") else "", "blue")
    return [_text(), first, second]


def _page(board: Board, columns: int, lines: int) -> "list[Text]":
    page = board.page
    assert page is not None
    shown = page.lines[page.first : page.first + lines - 4]
    return [_text(one_line(page.title), "bold"), _text(), *(_text(_sideways(line, page.left)) for line in shown)]


def _sideways(line: str, left: int) -> str:
    """A line of a page from one of its columns on. In a stack, a file comes before its folder."""
    text = clean(line).expandtabs(4)
    if left == 0 and (frame := _FRAME.match(text)):
        text = f"{frame['indent']}{frame['file']}:{frame['line']}  in {frame['function']}  {frame['folder']}"
    return text[left:]


def _foot(board: Board, columns: int) -> "Text":
    if board.question is not None:
        return _text(one_line(board.question[0]), "bold yellow")
    if board.page is not None:
        return _text("↑↓ ←→ scroll  any other key: back  q quit", "dim")
    keys = KEYS if columns >= len(KEYS) else KEYS_SHORT
    return _text(one_line(board.note), "yellow") if board.note else _text(keys, "dim")


def _around(rows: Any, at: int, room: int) -> Any:
    """As many as there is room for, with the one at that place among them."""
    first = min(max(0, at - room + 1), max(0, len(rows) - room)) if at >= room else 0
    return rows[first : first + max(0, room)]


def _fit(text: str, width: int) -> str:
    text = one_line(text)
    return f"{text if len(text) < width else text[: width - 2] + '…':<{width}}"


def _name_width(columns: int) -> int:
    return 26 if columns >= WIDE else 18


def _bar_width(columns: int) -> int:
    return 10 if columns >= WIDE else 5 if columns >= NARROW else 0


def _text(text: str = "", style: str = "") -> "Text":
    from rich.text import Text

    return Text(text, style=style, no_wrap=True, end="\n")
