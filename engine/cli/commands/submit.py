"""`ganger submit`: one task, from the command line."""

import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from engine.cli.commands.task import told_end
from engine.cli.session import Session, command
from engine.core.task.options import OPTIONS, Giver, Option, OptionType, given_by
from engine.errors import InvalidPayload

_EXAMPLES = """
ganger submit digest --payload '{"path": "/etc/hosts"}' --wait
ganger submit report --payload @report.json --priority urgent --queue reports
generate | ganger submit report --payload - --delay 60 --max-retries 5
"""
_FOR_EVER_S = 10 * 365 * 86_400.0


def add_to(app: typer.Typer) -> None:
    command(app, "submit", examples=_EXAMPLES)(submit)


def _flag(option: Option) -> inspect.Parameter:
    """The flag of one option. One that takes several values is given once for each, and has their singular."""
    type_, metavar = _TYPES[option.type]
    is_list = option.type in _LISTS
    flag = "--" + option.name.removesuffix("s" if is_list else "").replace("_", "-")
    text = option.about + (" May be given several times." if is_list else "")
    shown = option.placeholder or metavar or "|".join(option.choices) or None
    names = [f"{flag}/--no-{flag[2:]}"] if option.type is OptionType.BOOLEAN else [flag]
    annotation = Annotated[list[type_] | None if is_list else type_ | None,  # type: ignore[valid-type]
                           typer.Option(*names, metavar=shown, help=text)]
    return inspect.Parameter(option.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _value(option: Option, value: Any) -> Any:
    """The value of a flag as `Client.submit` takes it."""
    if option.type in _LISTS:
        return value or None
    return {"url": value} if option.type is OptionType.WEBHOOK and value is not None else value


_TYPES: dict[OptionType, tuple[Any, str]] = {
    OptionType.TEXT: (str, "TEXT"), OptionType.QUEUE: (str, "QUEUE"), OptionType.PRIORITY: (str, "PRIORITY"),
    OptionType.SECONDS: (float, "SECONDS"), OptionType.COUNT: (int, "N"), OptionType.NUMBER: (float, "NUMBER"),
    OptionType.BOOLEAN: (bool, ""), OptionType.CHOICE: (str, ""), OptionType.MEMORY: (str, "SIZE"),
    OptionType.MEMORY_STEPS: (str, "SIZE"), OptionType.TAGS: (str, "TAG"), OptionType.TRACEPARENT: (str, "W3C"),
    OptionType.WEBHOOK: (str, "URL")}
_LISTS = (OptionType.TAGS, OptionType.MEMORY_STEPS)


def with_task_options(function: Callable[..., int | None]) -> Callable[..., int | None]:
    """Put a flag for each option of the table in place of the `**options` of a command."""
    signature = inspect.signature(function)
    own = [parameter for parameter in signature.parameters.values() if parameter.kind is not parameter.VAR_KEYWORD]
    flags = [_flag(option) for option in given_by(Giver.CLI).values()]
    function.__signature__ = signature.replace(parameters=[*own, *flags])  # type: ignore[attr-defined]
    return function


@with_task_options
def submit(
    session: Session,
    task_type: Annotated[str, typer.Argument(metavar="TYPE", help="Name of the handler.")],
    payload: Annotated[str | None, typer.Option(
        metavar="JSON", help="Payload as JSON text, @FILE, or - for standard input (default: {}).")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end and print the result.")] = False,
    wait_timeout: Annotated[float | None, typer.Option(
        metavar="SECONDS", min=0,
        help="Wait at most this many seconds; exit code 4 if the task has not ended by then.")] = None,
    **options: Any,
) -> int | None:
    """Submit one task and print its id, or with --wait its result."""
    given = {name: _value(OPTIONS[name], value) for name, value in options.items()}
    content = {} if payload is None else payload_of(payload)
    with session.client() as client:
        task_id = client.submit(task_type, content, **given)
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
