"""Commands on single tasks: status, result, wait, delete, cancel, retry, priority."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.cli.exit_codes import Exit
from engine.cli.filters import (
    LimitOption,
    NameOption,
    PriorityOption,
    QuarantinedOption,
    QueueOption,
    StatusOption,
    TagOption,
    TypeOption,
    given_filter,
)
from engine.cli.output import coloured, counted, document, duration, one_line, size, when
from engine.cli.session import Session, command
from engine.errors import InvalidOption, ResultNotReady

if TYPE_CHECKING:
    from engine.client import Client
    from engine.client.models import Task

_RETRY_EXAMPLES = """
ganger retry ID
ganger retry --status TIMEOUT --queue images
ganger retry --quarantined --type thumbnail
ganger retry --all
"""
REASON_AFTER_S = 1.0  # who waits longer than this is told why, if no pool can run the task
IdArgument = Annotated[str, typer.Argument(metavar="ID", help="Id of the task.")]
IdsArgument = Annotated[list[str], typer.Argument(metavar="ID", help="Ids of tasks.")]


def add_to(app: typer.Typer) -> None:
    command(app, "status", examples="ganger status 01H5RC2K8D7QZ3V0M4T\nganger status ID --json | jq .progress")(status)
    command(app, "result", examples="ganger result ID\nganger result ID --wait 60")(result)
    command(app, "wait", examples="ganger wait ID ID\nganger wait ID --timeout 60 --json | jq '.[].cause'")(wait_for)
    command(app, "delete", examples="ganger delete ID ID")(delete)
    command(app, "cancel", examples='ganger cancel ID\nganger cancel ID ID --reason "wrong input"')(cancel)
    command(app, "retry", examples=_RETRY_EXAMPLES)(retry)
    command(app, "priority", examples="ganger priority ID urgent")(set_priority)


def status(session: Session, ids: IdsArgument) -> None:
    """Show what is known of tasks: where they are, how they ended, what they used."""
    with session.client() as client:
        found = [client.get(task_id) for task_id in ids]
        if session.out.as_json:
            told = [{**task.model_dump(mode="json"), "reason": client.reason(task.id)} for task in found]
            session.out.json(told[0] if len(told) == 1 else told)
            return
        for task in found:
            show_task(session, task)
            if reason := client.reason(task.id):
                session.out.facts([("waiting", reason)])
            if task.quarantined:
                _show_evidence(session, client.outcomes(task.id))


def result(
    session: Session, task_id: IdArgument,
    wait: Annotated[float, typer.Option(
        metavar="SECONDS", min=0, help="Wait at most this many seconds for the task to end.")] = 0.0,
) -> int:
    """Print what the handler returned, as JSON."""
    with session.client() as client:
        return told_end(session, client, task_id, wait)


def wait_for(
    session: Session, ids: IdsArgument,
    timeout: Annotated[float | None, typer.Option(
        metavar="SECONDS", min=0, help="Wait at most this many seconds (default: as long as it takes).")] = None,
) -> int:
    """Wait until tasks have ended, and print how.

    The exit code is 0 if all completed, 1 if one did not, 4 if one has not ended in time.
    """
    with session.client() as client:
        found = client.wait(ids, timeout=timeout)
    if session.out.as_json:
        session.out.json(found)
    else:
        for task in found:
            session.out.line(f"{task.id} ", coloured(str(task.status)))
    if not all(task.status.is_final for task in found):
        return Exit.WAITED
    return Exit.OK if all(task.status == "COMPLETED" for task in found) else Exit.FAILED


def delete(session: Session, ids: IdsArgument) -> int:
    """Forget tasks that have ended, with their results and logs. Tasks that have not ended stay."""
    with session.client() as client:
        deleted = client.delete(ids)
    if session.out.as_json:
        session.out.json({"deleted": deleted})
    else:
        session.out.line(f"{counted(deleted, 'task')} deleted")
        if kept := len(set(ids)) - deleted:
            session.out.note(f"{counted(kept, 'task')} not deleted: not ended yet (ganger cancel ID), "
                             "or not there any more")
    return Exit.OK if deleted == len(set(ids)) else Exit.FAILED


def told_end(session: Session, client: "Client", task_id: str, wait_s: float) -> int:
    """Print a task's result, or why there is none. With --json the whole task. Returns the exit code."""
    soon_s = min(wait_s, REASON_AFTER_S)
    task = client.wait([task_id], timeout=soon_s)[0]
    if not task.status.is_final and wait_s > soon_s:
        if reason := client.reason(task_id):
            session.out.note(f"task {task_id} waits: {reason}")
        task = client.wait([task_id], timeout=wait_s - soon_s)[0]
    if not task.status.is_final:
        raise ResultNotReady(task_id, task.status, wait_s)
    completed = task.status == "COMPLETED"
    if session.out.as_json:
        session.out.json(task)
    elif completed:
        session.out.json(task.result)
    if not completed:
        error = task.error
        why = f"{error.kind}: {error.message}" if error else task.cause or "no error is known"
        told = f"task {task_id} is {task.status}: {why}".replace("\n", " ")
        session.out.note(f"ganger: {told}; see ganger status {task_id}")
    return Exit.OK if completed else Exit.FAILED


def cancel(
    session: Session, ids: IdsArgument,
    reason: Annotated[str, typer.Option(
        metavar="TEXT", help="Why it is cancelled; kept with the task.")] = "cancelled on the command line",
) -> None:
    """Cancel tasks.

    One that runs is stopped, with everything that it started.
    """
    with session.client() as client:
        now = {task_id: client.cancel(task_id, reason=reason) for task_id in ids}
    if session.out.as_json:
        session.out.json([{"id": task_id, "status": status} for task_id, status in now.items()])
        return
    for task_id, status in now.items():
        is_running = status == "RUNNING"
        session.out.line(f"{task_id} ", "is being stopped" if is_running else coloured(str(status)))


def retry(
    session: Session,
    ids: Annotated[list[str] | None, typer.Argument(metavar="ID", help="Ids of tasks.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every task that failed.")] = False,
    status: StatusOption = None, task_type: TypeOption = None, queue: QueueOption = None,
    priority: PriorityOption = None, name: NameOption = None, tag: TagOption = None,
    quarantined: QuarantinedOption = False, limit: LimitOption = 10_000,
) -> None:
    """Queue tasks again that failed, timed out or were cancelled.

    Either those with these ids, or all that match the options. Without --status these are the tasks that FAILED.
    """
    chosen = given_filter(status=status, task_type=task_type, queue=queue, priority=priority, name=name, tag=tag,
                          quarantined=quarantined)
    if bool(ids) == bool(chosen or everything):
        raise InvalidOption("name ids of tasks, or options that choose them (--all: every failed one)", field="ids",
                            limit="ids or options, not both")
    with session.client() as client:
        if ids:
            for task_id in ids:
                client.retry(task_id)
            queued = list(ids)
        else:
            queued = client.retry_many(limit=limit, **chosen)
    if session.out.as_json:
        session.out.json([{"id": task_id, "status": "QUEUED"} for task_id in queued])
    else:
        session.out.line(f"{len(queued)} queued again")


def set_priority(
    session: Session, task_id: IdArgument,
    priority: Annotated[str, typer.Argument(metavar="PRIORITY", help="LOW, NORMAL, HIGH or URGENT.")],
) -> None:
    """Change the priority of a task that has not started."""
    with session.client() as client:
        client.set_priority(task_id, priority)
        task = client.get(task_id)
    if session.out.as_json:
        session.out.json(task)
    else:
        session.out.line(f"{task_id} is {task.priority.name}")


def show_task(session: Session, task: "Task") -> None:
    """All that is known of a task, for a person."""
    name = f"  {one_line(task.name)}" if task.name else ""
    session.out.line(f"{task.id}  {task.task_type}  ", coloured(str(task.status)), name)
    session.out.facts([
        ("queue", f"{task.queue}, {task.priority.name}"), ("tags", ", ".join(task.tags)), ("progress", _progress(task)),
        ("created", when(task.created_at)), ("due", when(task.due_at)), ("expires", when(task.expires_at)),
        ("started", when(task.started_at)), ("ended", when(task.ended_at)), ("waited", duration(task.wait_s)),
        ("run", _runs(task)), ("used", _used(task.wall_s, task.cpu_s, task.peak_rss_bytes)),
        ("worker", _worker(task)), ("cause", task.cause),
        ("error", f"{task.error.kind}: {task.error.message}" if task.error else None),
        ("payload", _json(task.payload)), ("result", _json(task.result) if task.status == "COMPLETED" else None),
        ("traceback", task.error.traceback if task.error else None),
        *_post_mortem(task.post_mortem or {}),
    ])


def _show_evidence(session: Session, outcomes: list[dict[str, Any]]) -> None:
    """What each run of a quarantined task did to its worker; the last run is shown already."""
    session.out.line("  quarantined: it is not run again unless somebody retries it. Its earlier runs:")
    for outcome in outcomes[:-1]:
        error = outcome.get("error") or {}
        session.out.facts([
            (f"run {outcome['run']}", f"{outcome['cause']}: {error.get('message')}"),
            ("worker", outcome.get("worker")), ("used", _used_of(outcome)),
            ("traceback", error.get("traceback")), *_post_mortem(outcome.get("post_mortem") or {})])


def _used_of(outcome: dict[str, Any]) -> str:
    return _used(outcome.get("wall_s"), outcome.get("cpu_s"), outcome.get("peak_rss_bytes"))


def _progress(task: "Task") -> str | None:
    if task.progress is None:
        return None
    fraction = "" if task.progress.fraction is None else f"{task.progress.fraction:.0%} "
    return f"{fraction}{task.progress.message or ''}".strip()


def _runs(task: "Task") -> str | None:
    if not task.run:
        return None
    spent = [f"{count} {word}" for count, word in ((task.attempts, "failed"), (task.crashes, "crashed")) if count]
    return f"{task.run}" + (f" ({', '.join(spent)})" if spent else "")


def _used(wall_s: float | None, cpu_s: float | None, peak_rss_bytes: int | None) -> str:
    used = ((duration(wall_s), ""), (duration(cpu_s), " CPU"), (size(peak_rss_bytes), " peak"))
    return ", ".join(text + what for text, what in used if text)


def _worker(task: "Task") -> str | None:
    return f"{task.worker} (pid {task.pid})" if task.worker and task.pid else task.worker


def _post_mortem(facts: dict[str, Any]) -> list[tuple[str, Any]]:
    return [(name, _words(name, value)) for name, value in facts.items()
            if value not in (None, "", {}) and name != "progress"]  # which stands above


def _words(name: str, value: Any) -> str | None:
    """A fact for people, by the unit that its name ends in; several as `state sleeping, threads 1, rss 14.2 MiB`."""
    if isinstance(value, dict):
        return ", ".join(f"{_plain(inner)} {_words(inner, part)}" for inner, part in value.items() if part is not None)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return size(value) if name.endswith("_bytes") else duration(value) if name.endswith("_s") else str(value)
    return value if isinstance(value, str) else _json(value)


def _plain(name: str) -> str:
    return name.removesuffix("_bytes").removesuffix("_s").replace("_", " ")


def _json(value: Any, characters_max: int = 2000) -> str | None:
    if value is None:
        return None
    text = document(value)
    return text if len(text) <= characters_max else f"{text[:characters_max]}… ({len(text)} characters)"
