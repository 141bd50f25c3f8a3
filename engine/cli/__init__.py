"""The `ganger` command: one file for each noun."""


def main() -> None:
    """Run the command that the arguments name; ends the process with one of the exit codes of `exits.py`."""
    from engine.cli.app import app

    app()
