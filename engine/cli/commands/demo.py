"""`ganger demo`: a few hundred real tasks beside misbehaving ones, and what became of them."""

from typing import Annotated

import typer

from engine.cli.session import Session, command

_EXAMPLES = """
ganger demo
ganger demo --tasks 1000 --json
"""


def add_to(app: typer.Typer) -> None:
    command(app, "demo", examples=_EXAMPLES)(demo)


def demo(
    session: Session,
    tasks: Annotated[int | None, typer.Option(metavar="N", min=1, help="How many well-behaved tasks to run.")] = None,
    max_workers: Annotated[int | None, typer.Option(
        metavar="N", min=1, help="Worker processes (default: one for each core, at least 2).")] = None,
) -> int:
    """See it work: real tasks beside some that hang, crash and leak.

    On an engine of its own, in a temporary folder; leaves nothing behind.
    """
    from engine.demo import run_demo

    options = {"tasks": tasks} if tasks is not None else {}
    return run_demo(**options, max_workers=max_workers, print_json=session.out.json if session.out.as_json else None)
