"""The `ganger` command: one file for each noun."""

import signal
import sys


def main() -> None:
    """Run the command that the arguments name; ends the process with one of the exit codes of `exits.py`."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # until a command begins: no traceback of an import
    from engine.cli import streams
    from engine.cli.app import app

    streams.guard()
    try:
        app()
    finally:
        sys.stdout.flush()  # while what cannot be written can still be said
