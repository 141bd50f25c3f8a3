"""Exit codes of the command, and which error ends with which. They are documented in docs/cli.md."""

import errno
from enum import IntEnum

from engine.errors import BrokerError, EngineError, GangerError, InvalidInput, ResultNotReady


class Exit(IntEnum):
    OK = 0
    FAILED = 1
    USAGE = 2
    BROKER = 3
    WAITED = 4
    ENGINE = 5
    INTERRUPTED = 130

    @property
    def meaning(self) -> str:
        return _MEANINGS[self]


_MEANINGS = {
    Exit.OK: "done",
    Exit.FAILED: "the task failed, does not exist, or its status does not allow it; no such worker or pool "
                 "is running; doctor found a failure; the output cannot be written",
    Exit.USAGE: "wrong usage: an argument, payload, option or setting that is not acceptable",
    Exit.BROKER: "Redis is unavailable, full, read-only, too old, refuses the password, or has data of another version "
                 "of Ganger",
    Exit.WAITED: "the task has not ended within the time to wait",
    Exit.ENGINE: "the engine or the embedded Redis could not be started, or gave up",
    Exit.INTERRUPTED: "interrupted with Ctrl-C",
}

_OF_ERRORS: tuple[tuple[type[GangerError], Exit], ...] = (  # the first that fits
    (InvalidInput, Exit.USAGE),
    (BrokerError, Exit.BROKER),
    (ResultNotReady, Exit.WAITED),
    (EngineError, Exit.ENGINE),
)


_LIMITS = {
    errno.EMFILE: "the limit of open files (ulimit -n)",
    errno.ENFILE: "the limit of open files of the whole system (sysctl fs.file-max)",
    errno.EAGAIN: "the limit of processes and threads (ulimit -u)",
}


def exit_of(error: GangerError) -> Exit:
    """The exit code of a command that ended with this error."""
    return next((code for kind, code in _OF_ERRORS if isinstance(error, kind)), Exit.FAILED)


def limit_met(error: OSError | RuntimeError) -> str:
    """Which limit of the user an error of the system is about; empty for any other error."""
    if isinstance(error, OSError):
        return _LIMITS.get(error.errno or 0, "")
    return _LIMITS[errno.EAGAIN] if "can't start new thread" in str(error) else ""


def table() -> str:
    """All exit codes, one a line, for the help texts."""
    return "\n".join(f"  {code.value:<4} {code.meaning}" for code in Exit)
