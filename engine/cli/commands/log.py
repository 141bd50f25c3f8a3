"""`ganger logs`: what a task's runs printed and logged."""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from engine.cli.commands.task import IdArgument
from engine.cli.output import Styled
from engine.cli.session import Session, command

if TYPE_CHECKING:
    from engine.client import Client
    from engine.client.models import LogLine

_EXAMPLES = """
ganger logs ID
ganger logs ID -f
ganger logs ID --run 2 --stream stderr
"""
_POLL_S = 0.3


def add_to(app: typer.Typer) -> None:
    command(app, "logs", examples=_EXAMPLES)(logs)


def logs(
    session: Session, task_id: IdArgument,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on until the task has ended.")] = False,
    run: Annotated[int | None, typer.Option(metavar="N", min=1, help="Only this run.")] = None,
    stream: Annotated[str | None, typer.Option(metavar="NAME", help="Only stdout, stderr or log.")] = None,
) -> None:
    """Print what a task wrote to stdout, stderr and its log.

    Also while it runs; -f goes on until it has ended. With -f --json: one document a line. Control characters are
    printed as an escape such as \\x1b, also into a pipe; --json has the text as the task wrote it.
    """
    with session.client() as client:
        lines = (line for line in _lines(client, task_id, follow=follow)
                 if run in (None, line.run) and stream in (None, line.stream))
        if session.out.as_json and not follow:
            session.out.json(list(lines))
            return
        for line in lines:
            if session.out.as_json:
                session.out.json(line)
            else:
                session.out.line(*_parts(line))
            session.out.flush()


def _lines(client: "Client", task_id: str, *, follow: bool) -> Iterator["LogLine"]:
    """The lines there are; when following, then those that come until the task has ended.

    The status is read before the lines: what was written before the end is then among them.
    """
    seen = 0
    ended = not follow
    while True:
        if follow:
            ended = client.status(task_id).is_final
        fresh = client.logs(task_id, start=seen)
        yield from fresh
        seen += len(fresh)
        if ended:
            return
        if not fresh:
            time.sleep(_POLL_S)


def _parts(line: "LogLine") -> tuple[Styled, str]:
    return Styled(f"{line.at.astimezone():%H:%M:%S} {line.run} {line.stream:<6}", "dim"), " " + line.text.rstrip("\n")
