"""What commands print: for people on stdout, or exactly one JSON document; errors in one line on stderr.

Every word of every command passes here, and everything is cleaned on the way: a task's name, error or output cannot
steer a terminal, forge a line or be read as markup, be it printed at once or by a pager at the end of a pipe. Only a
`Styled` word carries a colour.
"""

import os
import sys
import textwrap
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from engine.cli.streams import escaped
from engine.errors import GangerError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

WIDTH_OF_PIPES = 4096  # nothing is cut off where no person looks

STYLES = {"COMPLETED": "green", "RUNNING": "cyan", "RETRYING": "yellow", "FAILED": "red", "TIMEOUT": "red",
          "CANCELLED": "magenta", "URGENT": "bold red", "HIGH": "yellow", "LOW": "dim",
          "ok": "green", "warn": "yellow", "fail": "bold red"}
_COLOURS = {"green": 32, "cyan": 36, "yellow": 33, "red": 31, "magenta": 35, "bold red": 31, "dim": 2}


class Styled(NamedTuple):
    """A word and its colour, for terminals that take colours."""

    text: str
    style: str


class Output:
    """Where a command's words go."""

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json

    def json(self, value: Any) -> None:
        """Print one JSON document on one line, in characters that the stream can have and no terminal obeys."""
        sys.stdout.write(document(value, sys.stdout.encoding) + "\n")

    def line(self, *parts: "str | Styled") -> None:
        """Print text, its lines as they are. Nothing in it steers the terminal but the colours of `Styled` parts."""
        sys.stdout.write("".join(_painted(part) if isinstance(part, Styled) else clean(part) for part in parts) + "\n")

    def draw(self, renderable: "RenderableType") -> None:
        """Print what rich draws. Whoever makes it cleans the text in it."""
        console().print(renderable)

    @property
    def room(self) -> int | None:
        """The columns of the terminal; None where it is none."""
        return console().width if sys.stdout.isatty() else None

    def flush(self) -> None:
        sys.stdout.flush()

    def note(self, text: str) -> None:
        """Something for a person that is not the answer."""
        sys.stderr.write(clean(text) + "\n")

    def confirm(self, question: str) -> bool:
        """Ask for a y on stderr."""
        import typer

        try:
            return typer.confirm(one_line(question), default=False, err=True)
        except typer.Abort:  # the end of the input
            self.note("")
            return False

    def error(self, error: GangerError) -> None:
        """One line for people; with --json the error is the document as well."""
        if self.as_json:
            told = {"kind": type(error).__name__, "message": str(error)}
            facts = {name: getattr(error, name, "") for name in ("field", "limit", "task_id", "status")}
            told |= {name: fact for name, fact in facts.items() if fact}
            self.json({"error": told})
        self.note("ganger: " + str(error).replace("\n", " "))

    def table(self, headings: Sequence[str], rows: Iterable[Sequence[Any]], *, right: Sequence[str] = (),
              cut: Sequence[str] = (), leave_out: Sequence[str] = ()) -> None:
        """Rows under headings, as wide as they are where it is no terminal.

        On a terminal that is too narrow, the text of the columns `cut` is cut off; if that is not enough, the columns
        `leave_out` are left out, one after the other, and a note says so.
        """
        from engine.cli import tables

        cells = [[styled(cell) for cell in row] for row in rows]
        room = self.room
        shape = tables.fit(headings, cells, room, cut, leave_out)
        self.draw(tables.drawn(headings, cells, shape, right))
        if shape.left_out:
            told = f"no room for {', '.join(shape.left_out)}: a wider terminal, a pipe and --json have all columns"
            self.note(textwrap.fill(told, room or WIDTH_OF_PIPES))

    def facts(self, facts: Iterable[tuple[str, Any]]) -> None:
        """Name and value, one a line; what is not known is left out. Further lines of a value are indented."""
        for name, value in facts:
            if value not in (None, "", [], {}):
                self.line(f"  {name:<12} " + str(value).rstrip("\n").replace("\n", "\n" + " " * 15))


def console() -> "Console":
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else WIDTH_OF_PIPES, highlight=False, soft_wrap=False)


def styled(cell: Any) -> Any:
    """A cell of a table: words that have a colour get it, nothing is read as markup."""
    from rich.text import Text

    if isinstance(cell, Text):
        return cell
    text = "" if cell is None else one_line(str(cell))
    return Text(text, style=STYLES.get(text, ""))


def coloured(word: str) -> Styled:
    """A word with the colour that it has everywhere."""
    return Styled(word, STYLES.get(word, ""))


def _painted(part: Styled) -> str:
    text = clean(part.text)
    if part.style not in _COLOURS or not sys.stdout.isatty() or "NO_COLOR" in os.environ:
        return text
    return f"\x1b[{_COLOURS[part.style]}m{text}\x1b[0m"


def clean(text: str) -> str:
    """The text with escapes in place of what steers a terminal or reverses its letters; line ends and tabs stay."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() or character in "\n\t" else escaped(character)
                   for character in text)


def one_line(text: str) -> str:
    """As `clean`, but line ends and tabs are escapes too: a name or a cell cannot look like another line."""
    return clean(text).replace("\n", "\\n").replace("\t", "\\t")


def document(value: Any, encoding: str | None = None) -> str:
    """A value as JSON. Control characters, and those that the encoding lacks, are escapes: the value is the same."""
    import orjson

    try:
        text = orjson.dumps(value, default=_plain, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:  # half a surrogate pair, or an integer beyond 64 bits
        import json

        text = json.dumps(value, default=_plain, separators=(",", ":"))
    try:
        text.encode(encoding or "utf-8")
    except UnicodeEncodeError:
        return "".join(character if character.isascii() and character.isprintable() else _json_escape(character)
                       for character in text)
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else _json_escape(character) for character in text)


def _json_escape(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))


def counted(count: int, noun: str) -> str:
    """`1 task`, `3 tasks`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def duration(seconds: float | None) -> str:
    """`12 ms`, `3.4 s`, `5 min`, `2 min 7 s`, `2 h 5 min`, `3 d 4 h`."""
    if seconds is None:
        return ""
    if seconds < 0.9995:
        return f"{seconds * 1000:.3g} ms"
    if seconds < 99.95:
        return f"{seconds:.3g} s"
    whole = round(seconds)
    for (unit, length), (below, part) in zip(
            (("d", 86_400), ("h", 3600), ("min", 60)), (("h", 3600), ("min", 60), ("s", 1)), strict=True):
        if whole >= length:
            rest = whole % length // part
            return f"{whole // length} {unit} {rest} {below}" if rest else f"{whole // length} {unit}"
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
    away = duration(round(abs(from_now)) if abs(from_now) >= 10 else abs(from_now))
    relative = f"in {away}" if from_now > 0 else f"{away} ago"
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S} ({relative})"


def _plain(value: Any) -> Any:
    """Models as the JSON that they are for Python users too."""
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    return str(value)
