"""`ganger queues`: what waits where; pause, resume and purge a queue."""

from typing import Annotated

import typer

from engine.cli.output import counted, duration, one_line
from engine.cli.session import Session, command, with_common
from engine.core.task.names import did_you_mean
from engine.core.task.priority import DESCENDING
from engine.errors import InvalidOption

QueueArgument = Annotated[str, typer.Argument(metavar="QUEUE", help="Name of the queue.")]


def add_to(app: typer.Typer) -> None:
    nouns = typer.Typer(help="Show what waits in the queues; pause, resume or purge one.", rich_markup_mode=None)
    nouns.callback(invoke_without_command=True)(with_common(list_queues))
    command(nouns, "list", examples="ganger queues\nganger queues list --json")(list_queues)
    command(nouns, "pause", examples="ganger queues pause images")(pause)
    command(nouns, "resume", examples="ganger queues resume images")(resume)
    command(nouns, "purge", examples="ganger queues purge images --yes")(purge)
    app.add_typer(nouns, name="queues")


def list_queues(session: Session) -> None:
    """Show what waits in the queues, by priority, and for how long the oldest task has."""
    with session.client() as client:
        queues, unknown = client.queue_stats(), client.unknown_types()
    if session.out.as_json:
        session.out.json(queues)
        return
    from engine.core.task.names import types_in_words

    names = [priority.name for priority in DESCENDING]
    session.out.table(("queue", "state", *names, "total", "oldest"), [
        (queue.queue, "paused" if queue.paused else "open", *(queue.queued.get(name, 0) for name in names), queue.total,
         duration(queue.oldest_s)) for queue in queues], right=(*names, "total", "oldest"), cut=("queue",),
        leave_out=("total", "state", "oldest", "LOW", "NORMAL"))
    if unknown:
        session.out.line(f"no living pool knows the types of tasks that wait: {one_line(types_in_words(unknown))}")


def pause(session: Session, queue: QueueArgument) -> None:
    """Start no more tasks of a queue. Those that run go on, and submits are accepted.

    A queue without tasks can be paused too, before it gets its first.
    """
    with session.client() as client:
        known = [stats.queue for stats in client.queue_stats()]
        client.pause(queue)
    _told(session, queue, "paused")
    if queue not in known:
        session.out.note(f"there are no tasks in {queue} yet{did_you_mean(queue, known)}")


def resume(session: Session, queue: QueueArgument) -> None:
    """Start tasks of a paused queue again."""
    with session.client() as client:
        client.resume(queue)
    _told(session, queue, "open")


def purge(
    session: Session, queue: QueueArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Cancel every task that waits in a queue."""
    with session.client() as client:
        waiting = sum(stats.total for stats in client.queue_stats() if stats.queue == queue)
        tasks = "the task that waits" if waiting == 1 else f"the {waiting} tasks that wait"
        if waiting and not yes and not session.out.confirm(f"Cancel {tasks} in {queue}?"):
            raise InvalidOption("nothing was purged", field="yes", limit="--yes, or the answer y")
        purged = client.purge(queue)
    if session.out.as_json:
        session.out.json({"queue": queue, "purged": purged})
    else:
        session.out.line(f"{counted(purged, 'task')} of {queue} cancelled")


def _told(session: Session, queue: str, state: str) -> None:
    if session.out.as_json:
        session.out.json({"queue": queue, "paused": state == "paused"})
    else:
        session.out.line(f"{queue} is {state}")
