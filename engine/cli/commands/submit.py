"""`ganger submit`: one task, from the command line."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from engine.cli.commands.task import told_end
from engine.cli.session import Session, command
from engine.errors import InvalidPayload

_EXAMPLES = """
ganger submit digest --payload '{"path": "/etc/hosts"}' --wait
ganger submit report --payload @report.json --priority urgent --queue reports
generate | ganger submit report --payload - --delay 60 --max-retries 5
"""
_FOR_EVER_S = 10 * 365 * 86_400.0


def add_to(app: typer.Typer) -> None:
    command(app, "submit", examples=_EXAMPLES)(submit)


Priority = Annotated[str | None, typer.Option(metavar="PRIORITY", help="LOW, NORMAL, HIGH or URGENT.")]


def _option(metavar: str, text: str) -> Any:
    return typer.Option(metavar=metavar, help=text)


def submit(
    session: Session,
    task_type: Annotated[str, typer.Argument(metavar="TYPE", help="Name of the handler.")],
    payload: Annotated[str | None, _option(
        "JSON", "Payload as JSON text, @FILE, or - for standard input (default: {}).")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end and print the result.")] = False,
    wait_timeout: Annotated[float | None, typer.Option(
        metavar="SECONDS", min=0,
        help="Wait at most this many seconds; exit code 4 if the task has not ended by then.")] = None,
    name: Annotated[str | None, _option("TEXT", "A name for people; it need not be unique.")] = None,
    queue: Annotated[str | None, _option("QUEUE", "Queue to put it in.")] = None,
    priority: Priority = None,
    delay: Annotated[float | None, _option("SECONDS", "Start it after this many seconds at the earliest.")] = None,
    expires: Annotated[float | None, _option(
        "SECONDS", "Give it up if it has not started within this many seconds.")] = None,
    timeout: Annotated[float | None, _option(
        "SECONDS", "Kill a run that takes longer than this many seconds.")] = None,
    soft_timeout: Annotated[float | None, _option(
        "SECONDS", "Raise SoftTimeout in the handler after this many seconds.")] = None,
    max_retries: Annotated[int | None, _option(
        "N", "Run it again after a failure, at most this many times.")] = None,
    max_deliveries: Annotated[int | None, _option(
        "N", "With 1 it is never run again when the fate of its first run is unknown.")] = None,
    idempotency_key: Annotated[str | None, _option(
        "KEY", "A second submit to the same queue with the same key gives the first task.")] = None,
    fair_key: Annotated[str | None, _option(
        "KEY", "Tasks of one queue take turns by this key, such as a customer.")] = None,
    tag: Annotated[list[str] | None, _option("TAG", "A tag; may be given several times.")] = None,
    max_memory: Annotated[str | None, _option(
        "SIZE", "End a run that uses more memory, with all that it starts; such as 512M.")] = None,
    max_cpu_seconds: Annotated[float | None, _option(
        "SECONDS", "End a run that uses more processor time, with all that it starts.")] = None,
    max_processes: Annotated[int | None, _option(
        "N", "End a run that has more processes, its worker included.")] = None,
    nice: Annotated[int | None, _option("N", "How far it lets other processes go first, 0 to 19.")] = None,
    result_ttl: Annotated[float | None, _option(
        "SECONDS", "Keep the task for this many seconds after it has completed.")] = None,
    durability: Annotated[str | None, _option(
        "fsync", "fsync: return only when the task is on the disk of Redis.")] = None,
    webhook: Annotated[str | None, _option(
        "URL", "Where the API sends a message when the task has ended.")] = None,
    traceparent: Annotated[str | None, _option("W3C", "Trace context that the handler's spans belong to.")] = None,
) -> int | None:
    """Submit one task and print its id, or with --wait its result."""
    options: dict[str, Any] = {
        "name": name, "queue": queue, "priority": priority, "delay": delay, "timeout": timeout,
        "soft_timeout": soft_timeout, "max_retries": max_retries, "expires": expires,
        "idempotency_key": idempotency_key, "fair_key": fair_key, "tags": tag or None,
        "max_deliveries": max_deliveries, "max_memory": max_memory, "max_cpu_seconds": max_cpu_seconds,
        "max_processes": max_processes, "nice": nice, "result_ttl": result_ttl, "durability": durability,
        "webhook": None if webhook is None else {"url": webhook}, "traceparent": traceparent}
    content = {} if payload is None else payload_of(payload)
    with session.client() as client:
        task_id = client.submit(task_type, content, **options)
        if wait or wait_timeout is not None:
            session.out.note(f"submitted {task_id}")
            return told_end(session, client, task_id, _FOR_EVER_S if wait_timeout is None else wait_timeout)
        if session.out.as_json:
            session.out.json(client.get(task_id))
        else:
            session.out.line(task_id)
    return None


def payload_of(text: str) -> Any:
    """The payload that `--payload` names. Raises `InvalidPayload` that says where it stops being JSON."""
    import orjson

    content: str | bytes = text
    try:
        if text == "-":
            content = sys.stdin.buffer.read()
        elif text.startswith("@"):
            content = Path(text[1:]).read_bytes()
        return orjson.loads(content)
    except OSError as error:
        raise InvalidPayload(f"cannot read the payload from {text[1:]!r}: {error.strerror}", field="payload",
                             value=text, limit="the path of a readable file") from None
    except orjson.JSONDecodeError as error:
        shown = content[:60] if isinstance(content, str) else f"{len(content)} bytes"
        raise InvalidPayload(f"the payload is not JSON: {error}: {shown}", field="payload", value=str(shown),
                             limit="a JSON value, @FILE, or - for standard input") from None
