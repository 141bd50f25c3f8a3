"""The options that choose tasks, the same for every command that takes them."""

from typing import Annotated, Any

import typer

StatusOption = Annotated[str | None, typer.Option(
    metavar="STATUS", help="PENDING, QUEUED, RUNNING, RETRYING, COMPLETED, FAILED, CANCELLED or TIMEOUT.")]
TypeOption = Annotated[str | None, typer.Option("--type", metavar="TYPE", help="Name of the handler.")]
QueueOption = Annotated[str | None, typer.Option(metavar="QUEUE", help="Name of the queue.")]
PriorityOption = Annotated[str | None, typer.Option(metavar="PRIORITY", help="LOW, NORMAL, HIGH or URGENT.")]
NameOption = Annotated[str | None, typer.Option(metavar="NAME", help="Name that the task was given.")]
TagOption = Annotated[str | None, typer.Option(metavar="TAG", help="One of its tags.")]
QuarantinedOption = Annotated[bool, typer.Option(
    "--quarantined", help="Only quarantined tasks: too many workers died in their runs.")]
LimitOption = Annotated[int, typer.Option(metavar="N", min=1, help="Show or change at most this many.")]


def given_filter(**options: str | bool | None) -> dict[str, Any]:
    """Those options that were given; a flag that was not is False."""
    return {name: value for name, value in options.items() if value is not None and value is not False}
