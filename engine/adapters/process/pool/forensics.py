"""What is known of a process that is ending: its stacks, what the kernel says of it, and what has ended it."""

import contextlib
import os
import re
import signal as signals
from collections import deque
from typing import Any

import orjson

from engine.adapters.kernel.descendants import stat_fields
from engine.adapters.process.own_frames import FOLDER

STACK_BYTES_MAX = 65_536
TAIL_ROWS_MAX, TAIL_CHARS_MAX = 20, 4_096
_ANY = -1  # no token
_CALL = re.compile(rf'  File "{re.escape(FOLDER)}/worker/interrupts\.py", line \d+ in call$')  # it calls the handler
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGESIZE")
_FAULTS = frozenset({"SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL", "SIGABRT", "SIGTRAP", "SIGSYS"})
_STATES = {"R": "running", "S": "sleeping", "D": "waiting for a device", "T": "stopped", "t": "traced", "Z": "zombie",
           "I": "idle", "X": "dead"}


class StackText:
    """What faulthandler writes to a worker's dump pipe: at most STACK_BYTES_MAX, the oldest first."""

    __slots__ = ("_parts", "_size")

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget what has come."""
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> None:
        """Take what was read from the pipe."""
        room = STACK_BYTES_MAX - self._size
        self._parts.append(data[:room])
        self._size += min(room, len(data))

    def __bool__(self) -> bool:
        return self._size > 0

    @property
    def text(self) -> str:
        """The dump: of each stack only what the user has put on it."""
        whole = b"".join(self._parts).decode("utf-8", "replace")
        lines, is_below = [], False
        for line in whole.splitlines():
            is_below = line.startswith("  File ") and (is_below or bool(_CALL.match(line)))
            if not is_below:
                lines.append(line)
        return "\n".join(lines).strip()


class OutputTail:
    """The last rows of output of a worker and the last progress of its run, for the report of its death."""

    __slots__ = ("_progress", "_rows")

    def __init__(self) -> None:
        self._progress: tuple[int, bytes] = (_ANY, b"")
        self._rows: deque[tuple[int, bytes | str]] = deque(maxlen=TAIL_ROWS_MAX)

    def logged(self, token: int, row: bytes) -> None:
        """Take a row of the run `token`."""
        self._rows.append((token, row))

    def spilled(self, text: str) -> None:
        """Take output past Python, which belongs to the run that is going on."""
        if text:
            self._rows.append((_ANY, text))

    def progressed(self, token: int, body: bytes) -> None:
        """Take a report of progress of the run `token`."""
        self._progress = token, body

    def progress_of(self, token: int) -> bytes | None:
        """The last progress of the run, None if it reported none."""
        return self._progress[1] if self._progress[0] == token else None

    def new_run(self) -> None:
        """What was spilled until here belongs to a run that has ended."""
        kept = [row for row in self._rows if row[0] != _ANY]
        self._rows.clear()
        self._rows.extend(kept)

    def of(self, token: int) -> str:
        """The last output of the run, in order; empty if it has written nothing."""
        texts = [_text_of(row) for its, row in self._rows if its in (token, _ANY)]
        return "\n".join(text.rstrip("\n") for text in texts)[-TAIL_CHARS_MAX:]


def _text_of(row: bytes | str) -> str:
    if isinstance(row, str):
        return row
    try:
        return str(orjson.loads(row)["text"])
    except (ValueError, TypeError, KeyError):  # a worker may have written anything before it died
        return repr(row[:100])


def proc_facts(pid: int) -> dict[str, Any] | None:
    """What the kernel says of a process now; None if it is gone or has become a zombie."""
    fields = stat_fields(pid)
    if fields is None or fields[0] in "ZX":
        return None
    facts = {"state": _STATES.get(fields[0], fields[0]), "threads": int(fields[17]),
             "user_s": int(fields[11]) / _TICKS_PER_S, "system_s": int(fields[12]) / _TICKS_PER_S,
             "rss_bytes": int(fields[21]) * _PAGE_BYTES}
    with contextlib.suppress(OSError), open(f"/proc/{pid}/wchan", "rb") as file:
        place = file.read().decode()
        facts["wchan"] = None if place in ("0", "") else place  # the kernel function it sleeps in
    return facts


def answers(pid: int) -> bool:
    """Whether a process will see a SIGUSR2: it is caught, and not blocked in the only thread.

    For a moment at the end of each dump it is blocked all the same.
    """
    status: dict[bytes, bytes] = {}
    with contextlib.suppress(OSError), open(f"/proc/{pid}/status", "rb") as file:
        status = dict(line.split(b":", 1) for line in file if b":" in line)
    bit = 1 << signals.SIGUSR2 - 1
    caught, blocked = (int(status.get(name, b"0"), 16) & bit for name in (b"SigCgt", b"SigBlk"))
    return bool(caught) and not (blocked and int(status[b"Threads"]) == 1)


def signal_name(number: int) -> str:
    """Its name, as "SIGKILL", or "signal 42" where it has none."""
    try:
        return signals.Signals(number).name
    except ValueError:
        return f"signal {number}"


def sender_of(signal: str | None, *, ours: bool, oom: bool) -> str | None:
    """Who sent the signal that ended a process, as far as the kernel tells: see `oom.py`."""
    if signal is None:
        return None
    if ours and signal == "SIGKILL":
        return "supervisor"
    if signal in _FAULTS:
        return "itself"
    if oom and signal == "SIGKILL":
        return "oom_killer"
    return "unknown"
