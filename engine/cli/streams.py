"""Standard input, output and error as the command has them: whatever they are, a write never ends in a traceback.

1. A stream that is closed (`>&-`) becomes /dev/null, so that no socket or file of ours takes its number.
2. A reader that has gone away (`| head`) ends the command with success: it has read all that it wanted.
3. Output that cannot be written for another reason is one line on stderr and an exit code. What stderr does not take
   is dropped.
4. A character that the encoding lacks becomes the nearest one in ASCII, or an escape.

Text that steers terminals is not dealt with here but in `output.py`: the command itself may use colours.
"""

import codecs
import errno
import io
import os
import select
import sys
from typing import Any

from engine.adapters.kernel.terminal import open_closed
from engine.cli.exit_codes import Exit

NEAREST = {"✓": "+", "✗": "x", "→": ">", "…": "~", "·": ".", "─": "-", "├": "|", "└": "`", "│": "|", "▶": ">", "█": "#",
           "▏": " ", "▎": " ", "▍": " ", "▌": " ", "▋": " ", "▊": " ", "▉": "#", "↑": "^", "↓": "v", "←": "<",
           "▁": "_", "▂": "_", "▃": "-", "▄": "-", "▅": "=", "▆": "=", "▇": "#", "━": "=", "╸": "-", "╺": "-"}
_ERRORS = "ganger.nearest"
_NAMES = ("stdin", "stdout", "stderr")


class GuardedFile(io.FileIO):
    """A descriptor to write to. The first write that fails ends the command; what comes after it is dropped."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "wb", closefd=False)
        self.is_lost = False

    def write(self, data: Any) -> int:
        """Writes what the descriptor takes; waits where it is non-blocking and full. Raises SystemExit."""
        size = memoryview(data).nbytes
        try:
            while not self.is_lost:
                written = super().write(data)
                if written is not None:
                    return written
                select.select([], [self], [])
        except OSError as error:
            self.is_lost = True
            self._give_up(error)
        return size

    def _give_up(self, error: OSError) -> None:
        if self.fileno() != 1:
            return
        if error.errno == errno.EPIPE:
            raise SystemExit(Exit.OK)
        sys.stderr.write(f"ganger: cannot write to standard output: {error.strerror}\n")
        raise SystemExit(Exit.FAILED)


def guard() -> None:
    """Make the standard streams of this process safe to use, as said above."""
    codecs.register_error(_ERRORS, nearest)
    closed = open_closed()
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115  for as long as the process
    for descriptor in (1, 2):
        name = _NAMES[descriptor]
        before = getattr(sys, name)
        encoding = "utf-8" if before is None or descriptor in closed else before.encoding
        setattr(sys, name, io.TextIOWrapper(
            io.BufferedWriter(GuardedFile(descriptor)), encoding=encoding, errors=_ERRORS,
            line_buffering=descriptor == 2 or os.isatty(descriptor)))


def nearest(error: UnicodeError) -> tuple[str, int]:
    """How a character is written that the encoding lacks: a handler of errors as `codecs` has them."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start:error.end]
    return "".join(NEAREST.get(character) or escaped(character) for character in lacking), error.end


def escaped(character: str) -> str:
    """A character as Python and JavaScript write it in ASCII."""
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
