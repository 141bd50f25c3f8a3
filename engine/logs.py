"""Structured logs of the processes of the tree: text for people on a terminal, JSON for machines otherwise.

Three loggers, so that each can be read, silenced or shipped alone:

    ganger.execution      what the tree does: starts, stops, claims, ends of runs
    ganger.errors         what went wrong, in a task or in the tree
    ganger.performance    measurements

Facts go in `extra`, never into the message: `execution.info("run ended", extra={"task_id": …, "run": 2, "wall_s": …})`.
A log line is never worth a crash: what cannot be written is dropped.
"""

import logging
import os
import sys
import time
from typing import Any, TextIO

import orjson

execution = logging.getLogger("ganger.execution")
errors = logging.getLogger("ganger.errors")
performance = logging.getLogger("ganger.performance")

_ROOT = logging.getLogger("ganger")
_NOT_EXTRA = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_COLOURS = {"DEBUG": "\x1b[2m", "WARNING": "\x1b[33m", "ERROR": "\x1b[31m", "CRITICAL": "\x1b[1;31m"}
_BLOCKS = ("failures", "stacks", "traceback")  # facts of several lines, which stand below the line
_TRACE_CHARS_MAX = 32_768


def set_up(level: str = "INFO", form: str = "auto", *, process: str = "", stream: TextIO | None = None) -> None:
    """Write the three loggers to `stream` (default: stderr). Calling it again replaces what was set up before.

    `form` is `text`, `json` or `auto` (text if the stream is a terminal). `process` names this process in each line.
    """
    stream = sys.stderr if stream is None else stream
    is_terminal = stream is not None and stream.isatty()
    output: logging.Handler = logging.NullHandler() if stream is None else _QuietHandler(stream)  # None: it is closed
    as_text = form == "text" or (form == "auto" and is_terminal)
    output.setFormatter(TextFormatter(process, colours=is_terminal and "NO_COLOR" not in os.environ) if as_text
                        else JsonFormatter(process))
    _ROOT.handlers[:] = [output]
    _ROOT.propagate = False
    set_level(level)


def set_level(level: str) -> None:
    """Change the least severe level that is written, of all three loggers, at once."""
    _ROOT.setLevel(level)


def facts_of(record: logging.LogRecord) -> dict[str, Any]:
    """What was passed as `extra`."""
    return {name: value for name, value in vars(record).items() if name not in _NOT_EXTRA and value is not None}


class JsonFormatter(logging.Formatter):
    """One JSON object a line: at, level, logger, process, pid, message, and the facts by their names."""

    def __init__(self, process: str = "") -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        row: dict[str, Any] = {"at": _utc(record.created), "level": record.levelname, "logger": record.name,
                               "process": self._process, "pid": record.process, "message": record.getMessage()}
        for name, value in facts_of(record).items():
            row.setdefault(name, value)
        if record.exc_info:
            row["traceback"] = self.formatException(record.exc_info)[-_TRACE_CHARS_MAX:]
        try:
            return orjson.dumps(row, default=repr, option=orjson.OPT_NON_STR_KEYS).decode()
        except TypeError:  # half a surrogate pair, an integer beyond 64 bits, a circle
            return orjson.dumps({name: repr(value) for name, value in row.items()}).decode()


class TextFormatter(logging.Formatter):
    """One line for people: time, level, process, message, facts as name=value. Tracebacks follow, indented."""

    def __init__(self, process: str = "", *, colours: bool = False) -> None:
        super().__init__()
        self._process, self._colours = process, colours

    def format(self, record: logging.LogRecord) -> str:
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        told = facts_of(record)
        facts = "  ".join(f"{name}={_short(value)}" for name, value in told.items() if name not in _BLOCKS)
        who = self._process or record.name.rpartition(".")[2]
        line = f"{clock}.{int(record.msecs):03d} {record.levelname:<7} {who:<12} {_one_line(record.getMessage())}"
        line += f"  {facts}" if facts else ""
        colour = _COLOURS.get(record.levelname) if self._colours else None
        if colour:
            line = f"{colour}{line}\x1b[0m"
        line += "".join(_below(name, told[name]) for name in _BLOCKS if told.get(name))
        if record.exc_info:
            line += _indented(self.formatException(record.exc_info), "    ")
        return line


class _QuietHandler(logging.StreamHandler[TextIO]):
    """Drops what cannot be written: stderr may be a pipe whose reader has gone."""

    def handleError(self, record: logging.LogRecord) -> None:
        pass


def _utc(moment_s: float) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment_s))
    return f"{whole}.{int(moment_s * 1000) % 1000:03d}Z"


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    text = _one_line(str(value))
    return f'"{text}"' if " " in text else text


def _below(name: str, value: Any) -> str:
    """Text of several lines below the line, with the name that it has."""
    parts = value.items() if isinstance(value, dict) else [("", value)]
    return "".join(f"\n    {_one_line(f'{name} {part}'.strip())}:" + _indented(str(text), "      ")
                   for part, text in parts)


def _indented(text: str, indent: str) -> str:
    return "".join(f"\n{indent}{_one_line(part)}" for part in text[-_TRACE_CHARS_MAX:].split("\n") if part)


def _one_line(text: str) -> str:
    """A task's name or an error's message must not forge a line, nor steer the terminal."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)
