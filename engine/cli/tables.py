"""Which columns of a table a terminal has room for, and how wide each of them is."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

CUT_TO_MIN = 10  # columns that remain of a cell that is cut off
_GAP = 2


class Shape(NamedTuple):
    """`widths` are those of the columns that are shown, by their place; None: each as wide as rich finds right."""

    widths: dict[int, int | None]
    left_out: list[str]


def fit(headings: Sequence[str], cells: Sequence[Sequence["Text"]], room: int | None, cut: Sequence[str],
        leave_out: Sequence[str]) -> Shape:
    """What is shown in `room` columns of a terminal; None is a pipe, which has room for everything."""
    if room is None or not (cut or leave_out):
        return Shape(dict.fromkeys(range(len(headings))), [])
    widths: dict[int, int | None] = {
        at: max([len(heading), *(row[at].cell_len for row in cells)]) for at, heading in enumerate(headings)}
    leaving, left_out = list(leave_out), list[str]()
    gone: dict[int, int | None] = {}
    while leaving and _needed(widths, headings, cut) > room:
        heading = leaving.pop(0)
        at = list(headings).index(heading)
        if any(row[at].plain for row in cells):  # nobody misses an empty one
            left_out.append(heading)
        gone[at] = widths.pop(at)
    for at in reversed(list(gone)):  # what is narrower than those that went after it may have room again
        back = dict(sorted({**widths, at: gone[at]}.items()))
        if _needed(back, headings, cut) <= room:
            widths = back
            left_out = [heading for heading in left_out if heading != headings[at]]
    over = _total(widths) - room
    for heading in reversed(cut):
        at = list(headings).index(heading)
        width = widths.get(at)
        if width is not None and over > 0:
            widths[at] = max(min(CUT_TO_MIN, width), width - over)
            over -= width - (widths[at] or 0)
    return Shape(widths, left_out)


def drawn(headings: Sequence[str], cells: Sequence[Sequence["Text"]], shape: Shape, right: Sequence[str]) -> "Table":
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, _GAP, 0, 0))
    for at, width in shape.widths.items():
        heading = headings[at]
        table.add_column(heading, justify="right" if heading in right else "left", width=width,
                         no_wrap=width is not None or heading in right or heading == "id",
                         overflow="fold" if width is None else "ellipsis")
    for row in cells:
        table.add_row(*(row[at] for at in shape.widths))
    return table


def _needed(widths: dict[int, int | None], headings: Sequence[str], cut: Sequence[str]) -> int:
    """The room that they need at least."""
    return _total({at: min(CUT_TO_MIN, width or 0) if headings[at] in cut else width for at, width in widths.items()})


def _total(widths: dict[int, int | None]) -> int:
    return sum(width or 0 for width in widths.values()) + _GAP * (len(widths) - 1)
