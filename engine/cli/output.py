"""What commands print: for people on stdout, or exactly one JSON document; errors in one line on stderr.

Text that came from tasks is cleaned before it reaches a terminal: a task's
name or output must not be able to steer it.
"""

import os
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from engine.errors import GangerError

if TYPE_CHECKING:
    from rich.console import Console

WIDTH_OF_PIPES = 4096  # nothing is cut off where no person looks

STYLES = {"COMPLETED": "green", "RUNNING": "cyan", "RETRYING": "yellow", "FAILED": "red", "TIMEOUT": "red",
          "CANCELLED": "magenta", "URGENT": "bold red", "HIGH": "yellow", "LOW": "dim",
          "ok": "green", "warn": "yellow", "fail": "bold red"}
_COLOURS = {"green": 32, "cyan": 36, "yellow": 33, "red": 31, "magenta": 35, "bold red": 31, "dim": 2}


class Output:
    """Where a command's words go."""

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json

    def json(self, value: Any) -> None:
        """Print one JSON document on one line."""
        import orjson

        sys.stdout.write(orjson.dumps(value, default=_plain, option=orjson.OPT_NON_STR_KEYS).decode() + "\n")

    def line(self, text: str = "") -> None:
        sys.stdout.write(text + "\n")

    def note(self, text: str) -> None:
        """Something for a person that is not the answer."""
        sys.stderr.write(text + "\n")

    def error(self, error: GangerError) -> None:
        """One line for people; with --json the error is the document as well."""
        if self.as_json:
            told = {"kind": type(error).__name__, "message": str(error)}
            facts = {name: getattr(error, name, "") for name in ("field", "limit", "task_id", "status")}
            told |= {name: fact for name, fact in facts.items() if fact}
            self.json({"error": told})
        self.note("ganger: " + clean(str(error)).replace("\n", " "))

    def table(self, headings: Sequence[str], rows: Iterable[Sequence[Any]], *, right: Sequence[str] = ()) -> None:
        """Rows under headings, as wide as they are where it is no terminal."""
        from rich.table import Table

        table = Table(box=None, pad_edge=False, header_style="dim")
        for heading in headings:
            table.add_column(heading, justify="right" if heading in right else "left",
                             no_wrap=heading in right or heading == "id", overflow="fold")
        for row in rows:
            table.add_row(*(styled(cell) for cell in row))
        console().print(table)

    def facts(self, facts: Iterable[tuple[str, Any]]) -> None:
        """Name and value, one a line; what is not known is left out. Further lines of a value are indented."""
        for name, value in facts:
            if value not in (None, "", [], {}):
                self.line(f"  {name:<12} " + clean(str(value)).replace("\n", "\n" + " " * 15))


def console() -> "Console":
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else WIDTH_OF_PIPES, highlight=False, soft_wrap=False)


def styled(cell: Any) -> Any:
    """A cell of a table: words that have a colour get it, nothing is read as markup."""
    from rich.text import Text

    if isinstance(cell, Text):
        return cell
    text = "" if cell is None else clean(str(cell))
    return Text(text, style=STYLES.get(text, ""))


def coloured(word: str) -> str:
    """A word with its colour, on a terminal that takes colours."""
    style = STYLES.get(word)
    if style is None or not sys.stdout.isatty() or "NO_COLOR" in os.environ:
        return word
    return f"\x1b[{_COLOURS[style]}m{word}\x1b[0m"


def clean(text: str) -> str:
    """The text without characters that steer a terminal; line ends and tabs stay."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() or character in "\n\t" else f"\\x{ord(character):02x}"
                   for character in text)


def duration(seconds: float | None) -> str:
    """`12 ms`, `3.4 s`, `5 min`, `2.0 h`, `3.1 d`."""
    if seconds is None:
        return ""
    if seconds < 0.9995:
        return f"{seconds * 1000:.3g} ms"
    if seconds < 120:
        return f"{seconds:.3g} s"
    for unit, length, next_length in (("min", 60, 7200), ("h", 3600, 172_800), ("d", 86_400, float("inf"))):
        if seconds < next_length:
            return f"{seconds / length:.3g} {unit}"
    return ""


def size(count: float | None) -> str:
    """`512 B`, `3.2 MiB`."""
    if count is None:
        return ""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return ""


def when(moment: datetime | None) -> str:
    """Local time with what that is from now: `2026-03-01 12:00:01 (5 s ago)`."""
    if moment is None:
        return ""
    from_now = (moment - datetime.now(UTC)).total_seconds()
    relative = f"in {duration(from_now)}" if from_now > 0 else f"{duration(-from_now)} ago"
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S} ({relative})"


def _plain(value: Any) -> Any:
    """Models as the JSON that they are for Python users too."""
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    return str(value)
